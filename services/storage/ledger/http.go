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

// Comparison is the answer of a reconcile: each list holds the first of its sort, the counts are complete.
type Comparison struct {
	Exact       bool         `json:"exact" required:"true" description:"Nothing was found."`
	Fixed       bool         `json:"fixed" required:"true" description:"What was found is repaired, but for sizes, which need a person."`
	Orgs        int          `json:"organizations" required:"true"`
	Files       int64        `json:"files" required:"true"`
	Objects     int64        `json:"objects" required:"true"`
	Books       []WrongSum   `json:"books" required:"true" nullable:"false" description:"Sums that are not those of the files and uploads."`
	Orphans     FoundObjects `json:"orphans" required:"true" description:"Objects that belong to no file."`
	Missing     FoundObjects `json:"missing" required:"true" description:"Files without an object."`
	Sizes       FoundObjects `json:"sizes" required:"true" description:"Files whose object has another size than was stored."`
	StaleHolds  FoundObjects `json:"stale_holds" required:"true" description:"Reservations of uploads that are dead."`
	StaleGraves FoundObjects `json:"stale_graves" required:"true" description:"Deleted files whose object is still there."`
}

// WrongSum is a sum in the books of an org that is wrong.
type WrongSum struct {
	OrgID   uint64 `json:"organization_id" required:"true"`
	What    string `json:"what" required:"true"`
	Written int64  `json:"written" required:"true"`
	Right   int64  `json:"right" required:"true"`
}

// FoundObjects are some keys.
type FoundObjects struct {
	Count int64    `json:"count" required:"true"`
	Bytes int64    `json:"bytes" required:"true"`
	Keys  []string `json:"keys" required:"true" nullable:"false" description:"The first of them."`
}

func comparison(r *Report) Comparison {
	found := func(f Finding) FoundObjects {
		if f.Keys == nil {
			f.Keys = []string{}
		}
		return FoundObjects(f)
	}
	c := Comparison{
		Exact: r.Empty(), Fixed: r.Fixed && !r.Empty(), Orgs: r.Orgs, Files: r.Files, Objects: r.Objects, Books: []WrongSum{},
		Orphans: found(r.Orphans), Missing: found(r.Missing), Sizes: found(r.Sizes),
		StaleHolds: found(r.StaleHolds), StaleGraves: found(r.StaleGraves),
	}
	for _, d := range r.Books {
		c.Books = append(c.Books, WrongSum{d.Org, d.What, d.Written, d.Right})
	}
	return c
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
			Body:    ReconcileBody{}, Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Comparison]{}}},
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
	orgs, err := l.Orgs(l.life, after, cursor.Limit+1)
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
	u, err := l.Usage(l.life, org)
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
	if err := api.ReadJSON(c, maxBody, &body); err != nil {
		return err
	}
	if body.LimitBytes == nil {
		err = l.ClearLimit(l.life, org)
	} else if *body.LimitBytes < Unlimited || *body.LimitBytes > maxBytes {
		return api.Unprocessable("limit_bytes", "limit_bytes must be from 0 to %d; -1: no limit; null: the default of the host", int64(maxBytes))
	} else {
		err = l.SetLimit(l.life, org, *body.LimitBytes)
	}
	if err != nil {
		return err
	}
	return l.answerOrg(c, org, "Quota set")
}

func (l *Ledger) reconcile(objects Objects) fiber.Handler {
	return func(c *fiber.Ctx) error {
		var body ReconcileBody
		if err := api.ReadJSON(c, maxBody, &body); err != nil {
			return err
		}
		report, err := l.Reconcile(l.life, objects, ReconcileOptions{Prefix: "organizations/", Fix: body.Fix})
		if err != nil {
			return err
		}
		return api.OK(c, comparison(&report), "Books compared")
	}
}
