package ledger

import (
	"net/http"
	"strconv"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
)

const tagBooks = "Storage: books"

// maxBody bounds the JSON bodies of these routes.
const maxBody = 4 << 10

type orgParam struct {
	Org uint64 `path:"org" minimum:"1"`
}

type orgsParams struct {
	Cursor string `query:"cursor" description:"next_cursor of the answer before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"20"`
}

// OrgQuota is an org with what it may keep and keeps.
type OrgQuota struct {
	OrgID         uint64 `json:"organization_id" required:"true"`
	LimitBytes    int64  `json:"limit_bytes" required:"true" minimum:"-1" description:"-1: no limit."`
	Own           bool   `json:"own_limit" required:"true" description:"The limit is the organisation's own; otherwise the default of the host."`
	UsedBytes     int64  `json:"used_bytes" required:"true"`
	ReservedBytes int64  `json:"reserved_bytes" required:"true"`
}

// NewLimit is the body of PUT /internal/orgs/{org}/quota.
type NewLimit struct {
	LimitBytes *int64 `json:"limit_bytes" nullable:"true" minimum:"-1" description:"-1: no limit; null: the default of the host. What the organisation keeps already stays."`
}

// ReconcileBody is the body of POST /internal/storage/reconcile.
type ReconcileBody struct {
	Fix bool `json:"fix" default:"false" description:"Repair what is found."`
}

// Routes are those of whoever operates the host: what each org may keep, and whether the books are right. objects is the backend.
func (l *Ledger) Routes(objects Objects) []api.Route {
	return []api.Route{
		{
			Method: http.MethodGet, Path: "/internal/orgs", ID: "listOrgs", Tag: tagBooks, Summary: "Organisations with what they keep",
			Params: orgsParams{}, Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[api.List[OrgQuota]]{}}}, Handler: l.listOrgs,
		},
		{
			Method: http.MethodGet, Path: "/internal/orgs/{org}/quota", ID: "getOrgQuota", Tag: tagBooks, Summary: "What an organisation may keep, and keeps",
			Params: orgParam{}, Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[OrgQuota]{}}}, Handler: l.showOrg,
		},
		{
			Method: http.MethodPut, Path: "/internal/orgs/{org}/quota", ID: "setOrgQuota", Tag: tagBooks, Summary: "Set what an organisation may keep",
			Params: orgParam{}, Body: NewLimit{}, Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[OrgQuota]{}}},
			Errors: []int{http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity}, Handler: l.limitOrg,
		},
		{
			Method: http.MethodPost, Path: "/internal/storage/reconcile", ID: "reconcileStorage", Tag: tagBooks,
			Summary: "Compare the books with the files and with the backend",
			About:   "Reads the list of every object, so it takes its time. An empty report: everything is exact.",
			Body:    ReconcileBody{}, Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Report]{}}},
			Errors: []int{http.StatusUnsupportedMediaType, http.StatusServiceUnavailable}, Handler: l.reconcile(objects),
		},
	}
}

func (l *Ledger) listOrgs(c *fiber.Ctx) error {
	cursor, err := api.ReadCursor(c)
	if err != nil {
		return err
	}
	var after uint64
	if cursor.After != "" {
		if after, err = strconv.ParseUint(cursor.After, 10, 64); err != nil {
			return api.BadRequest("cursor", "cursor must be the next_cursor of an earlier answer")
		}
	}
	orgs, err := l.Orgs(c.Context(), after, cursor.Limit+1)
	if err != nil {
		return err
	}
	list := api.List[OrgQuota]{Items: []OrgQuota{}}
	for i, org := range orgs {
		if i == cursor.Limit {
			list.NextCursor = api.SealCursor(strconv.FormatUint(orgs[i-1].Org, 10))
			break
		}
		list.Items = append(list.Items, OrgQuota{org.Org, org.Limit, org.Own, org.Used, org.Reserved})
	}
	return api.OK(c, list, "Organisations listed")
}

// orgOf reads the path parameter.
func orgOf(c *fiber.Ctx) (uint64, error) {
	org, err := strconv.ParseUint(c.Params("org"), 10, 53)
	if err != nil || org == 0 {
		return 0, api.BadRequest("org", "org must be an integer above 0")
	}
	return org, nil
}

func (l *Ledger) showOrg(c *fiber.Ctx) error {
	org, err := orgOf(c)
	if err != nil {
		return err
	}
	return l.answerOrg(c, org, "Quota shown")
}

func (l *Ledger) answerOrg(c *fiber.Ctx, org uint64, message string) error {
	u, err := l.Usage(c.Context(), org)
	if err != nil {
		return err
	}
	return api.OK(c, OrgQuota{org, u.Limit, u.Own, u.Used, u.Reserved}, message)
}

func (l *Ledger) limitOrg(c *fiber.Ctx) error {
	org, err := orgOf(c)
	if err != nil {
		return err
	}
	var body NewLimit
	if err := api.ReadJSON(c, &body, maxBody); err != nil {
		return err
	}
	if body.LimitBytes == nil {
		err = l.ClearLimit(c.Context(), org)
	} else if *body.LimitBytes < Unlimited {
		return api.Unprocessable("limit_bytes", "limit_bytes must be 0 or more; -1: no limit; null: the default of the host")
	} else {
		err = l.SetLimit(c.Context(), org, *body.LimitBytes)
	}
	if err != nil {
		return err
	}
	return l.answerOrg(c, org, "Quota set")
}

func (l *Ledger) reconcile(objects Objects) fiber.Handler {
	return func(c *fiber.Ctx) error {
		var body ReconcileBody
		if err := api.ReadJSON(c, &body, maxBody); err != nil {
			return err
		}
		report, err := l.Reconcile(c.Context(), objects, ReconcileOptions{Prefix: "organizations/", Fix: body.Fix})
		if err != nil {
			return err
		}
		return api.OK(c, report, "Books compared")
	}
}
