package lifecycle

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/platform/api"
	"github.com/rivergate/rivergate/services/storage/ledger"
)

const tagLifecycle = "Storage: lifecycle"

const (
	maxBody  = 64 << 10
	maxIDs   = 1000
	maxDays  = 36_500
	maxLimit = 100_000
	// retryAfter is the hint of a 503.
	retryAfter = 5 * time.Second
)

// TransitionBody is the body of POST /internal/lifecycle/transition.
type TransitionBody struct {
	ObjectName     string  `json:"object_name,omitempty" description:"Either this or storage_file_ids."`
	StorageFileIDs []int64 `json:"storage_file_ids,omitempty" nullable:"false" minItems:"1" maxItems:"1000"`
	TargetTier     string  `json:"target_tier" required:"true" enum:"hot,warm,cold"`
	Reason         string  `json:"reason,omitempty" maxLength:"1000" description:"For the log."`
	DryRun         bool    `json:"dry_run,omitempty" default:"false" description:"Say what would be done and change nothing."`
}

// Transitions is the answer to it.
type Transitions struct {
	Transitioned []Transition `json:"transitioned" required:"true" nullable:"false"`
	Skipped      []Left       `json:"skipped" required:"true" nullable:"false" description:"Those in the tier already."`
	Failed       []Left       `json:"failed" required:"true" nullable:"false" description:"They are where they were, and readable."`
}

// Transition is a file in its new tier.
type Transition struct {
	ObjectName string    `json:"object_name" required:"true"`
	FromTier   string    `json:"from_tier" required:"true" enum:"hot,warm,cold"`
	ToTier     string    `json:"to_tier" required:"true" enum:"hot,warm,cold"`
	At         time.Time `json:"at" required:"true"`
}

// Left is a file that was not moved.
type Left struct {
	ObjectName    string `json:"object_name,omitempty"`
	StorageFileID int64  `json:"storage_file_id,omitempty"`
	Reason        string `json:"reason" required:"true"`
}

type statusParams struct {
	ObjectName string `query:"object_name" description:"Of one object; otherwise of the organisation."`
}

// ObjectStatus is where one object is.
type ObjectStatus struct {
	ObjectName       string     `json:"object_name" required:"true"`
	Tier             string     `json:"tier" required:"true" enum:"hot,warm,cold"`
	SizeBytes        int64      `json:"size_bytes" required:"true"`
	LastAccessedAt   time.Time  `json:"last_accessed_at" required:"true" description:"Right within an hour."`
	TierChangedAt    *time.Time `json:"tier_changed_at" required:"true" nullable:"true" description:"null: never."`
	NextTransitionAt *time.Time `json:"next_transition_at" required:"true" nullable:"true" description:"When the policy moves it, unless it is read before; null: not at all."`
}

// OrgStatus is where the objects of an organisation are.
type OrgStatus struct {
	Tiers     map[string]TierStatus `json:"tiers" required:"true" nullable:"false"`
	Policy    PolicyStatus          `json:"policy" required:"true"`
	LastRunAt *time.Time            `json:"last_run_at" required:"true" nullable:"true" description:"null: never."`
}

// StatusAnswer is one of the two, by whether an object was named.
type StatusAnswer struct{}

// JSONSchemaOneOf is for the description.
func (StatusAnswer) JSONSchemaOneOf() []any { return []any{ObjectStatus{}, OrgStatus{}} }

// TierStatus counts what is in a tier.
type TierStatus struct {
	Objects int64 `json:"objects" required:"true"`
	Bytes   int64 `json:"bytes" required:"true"`
}

// PolicyStatus is the policy of the scheduled runs.
type PolicyStatus struct {
	WarmAfterDays int `json:"warm_after_days" required:"true"`
	ColdAfterDays int `json:"cold_after_days" required:"true"`
}

// RunBody is the body of POST /internal/lifecycle/run.
type RunBody struct {
	WarmAfterDays *int `json:"warm_after_days,omitempty" nullable:"false" minimum:"0" maximum:"36500" default:"30"`
	ColdAfterDays *int `json:"cold_after_days,omitempty" nullable:"false" minimum:"0" maximum:"36500" default:"90"`
	DryRun        bool `json:"dry_run,omitempty" default:"false" description:"Say what would be done and change nothing."`
	Limit         *int `json:"limit,omitempty" nullable:"false" minimum:"1" maximum:"100000" default:"10000" description:"Files that are moved or deleted, at most."`
}

// RunResult is the answer to it.
type RunResult struct {
	Scanned        int   `json:"scanned" required:"true"`
	ToWarm         int   `json:"to_warm" required:"true"`
	ToCold         int   `json:"to_cold" required:"true"`
	ExpiredDeleted int   `json:"expired_deleted" required:"true"`
	BytesMoved     int64 `json:"bytes_moved" required:"true"`
	DurationMS     int64 `json:"duration_ms" required:"true"`
	DryRun         bool  `json:"dry_run" required:"true"`
}

// Routes declares what this package answers.
func (l *Lifecycle) Routes() []api.Route {
	const path = "/internal/lifecycle"
	return []api.Route{
		{
			Method: http.MethodPost, Path: path + "/transition", ID: "transitionTier", Tag: tagLifecycle, Summary: "Move files into a tier",
			About: "A file is readable at every instant of its move. 422: the storage backend does not have that tier.",
			Body:  TransitionBody{}, Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Transitions]{}}},
			Errors:  []int{http.StatusNotFound, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
			Handler: l.transition,
		},
		{
			Method: http.MethodGet, Path: path + "/status", ID: "getLifecycleStatus", Tag: tagLifecycle, Summary: "Where files are",
			Params: statusParams{}, Answers: []api.Answer{
				{Status: http.StatusOK, Body: api.Envelope[StatusAnswer]{}, About: "With object_name: that object. Without: all of the organisation."},
			},
			Errors: []int{http.StatusNotFound, http.StatusServiceUnavailable}, Handler: l.status,
		},
		{
			Method: http.MethodPost, Path: path + "/run", ID: "runLifecycle", Tag: tagLifecycle, Summary: "Apply the policy to the organisation's files now",
			About: "Files that nobody read for so many days move to the warm or the cold tier, where the storage backend has it; those whose time is over are deleted.",
			Body:  RunBody{}, Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[RunResult]{}}},
			Errors:  []int{http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity, http.StatusServiceUnavailable},
			Handler: l.run,
		},
	}
}

func (l *Lifecycle) transition(c *fiber.Ctx) error {
	var body TransitionBody
	if err := api.ReadJSON(c, maxBody, &body); err != nil {
		return err
	}
	tier := protocol.Tier(body.TargetTier)
	switch {
	case tier != protocol.TierHot && tier != protocol.TierWarm && tier != protocol.TierCold:
		return api.BadRequest("target_tier", "target_tier must be hot, warm or cold")
	case (body.ObjectName == "") == (len(body.StorageFileIDs) == 0):
		return api.BadRequest("object_name", "exactly one of object_name and storage_file_ids is needed")
	case len(body.StorageFileIDs) > maxIDs:
		return api.BadRequest("storage_file_ids", "storage_file_ids are %d, %d are allowed", len(body.StorageFileIDs), maxIDs)
	}
	tiers, err := l.tiers(l.life)
	if err != nil {
		return answerTo(err)
	}
	if !slices.Contains(tiers, tier) {
		return api.Unprocessable("target_tier", "The storage backend of this host has no tier %s; it has %v", tier, tiers)
	}
	org := api.CallerOf(c).OrgID
	out := Transitions{Transitioned: []Transition{}, Skipped: []Left{}, Failed: []Left{}}
	if body.ObjectName != "" {
		f, err := l.ledger.Find(l.life, org, body.ObjectName)
		if err != nil {
			return answerTo(err)
		}
		l.transit(&out, f, tier, body.DryRun)
	}
	for _, id := range slices.Compact(slices.Sorted(slices.Values(body.StorageFileIDs))) {
		f, err := l.ledger.ByID(l.life, org, id)
		switch {
		case errors.Is(err, ledger.ErrNotFound):
			out.Failed = append(out.Failed, Left{StorageFileID: id, Reason: "There is no such file"})
		case err != nil:
			return answerTo(err)
		default:
			l.transit(&out, f, tier, body.DryRun)
		}
	}
	l.log.Info("files moved into a tier on request", "organization", org, "tier", tier, "moved", len(out.Transitioned), "failed", len(out.Failed), "dry_run", body.DryRun, "reason", body.Reason)
	message := "Files moved"
	if body.DryRun {
		message = "Nothing was changed: this was a dry run"
	}
	return api.OK(c, out, message)
}

// transit moves one file and puts it into one of the lists.
func (l *Lifecycle) transit(out *Transitions, f ledger.File, tier protocol.Tier, dry bool) {
	moved, err := f, error(nil)
	switch {
	case f.Tier == tier:
		err = errThere
	case dry:
		moved.TierChanged = l.now().UTC()
	default:
		moved, err = l.Move(l.life, f, tier)
	}
	left := Left{ObjectName: f.ObjectName, StorageFileID: f.ID}
	switch {
	case err == nil:
		out.Transitioned = append(out.Transitioned, Transition{f.ObjectName, string(f.Tier), string(tier), moved.TierChanged.UTC()})
	case errors.Is(err, errThere):
		left.Reason = "It is " + string(tier) + " already"
		out.Skipped = append(out.Skipped, left)
	default:
		// What backend and database said goes to the log: it may name paths.
		left.Reason = api.AsError(answerTo(err)).Message
		l.log.Warn("a file stays where it is", "organization", f.Org, "file", f.ID, "error", err)
		out.Failed = append(out.Failed, left)
	}
}

func (l *Lifecycle) status(c *fiber.Ctx) error {
	org := api.CallerOf(c).OrgID
	if name := api.TextQuery(c, "object_name"); name != "" {
		f, err := l.ledger.Find(l.life, org, name)
		if err != nil {
			return answerTo(err)
		}
		tiers, err := l.tiers(l.life)
		if err != nil {
			return answerTo(err)
		}
		return api.OK(c, ObjectStatus{
			f.ObjectName, string(f.Tier), f.Size, f.Accessed.UTC(), orNull(f.TierChanged), orNull(l.next(f, tiers)),
		}, "Object found")
	}
	usage, err := l.ledger.Usage(l.life, org)
	if err != nil {
		return answerTo(err)
	}
	last, err := l.lastRun(l.life, org)
	if err != nil {
		return answerTo(err)
	}
	out := OrgStatus{Tiers: map[string]TierStatus{}, Policy: PolicyStatus(l.policy), LastRunAt: orNull(last)}
	for _, tier := range []protocol.Tier{protocol.TierHot, protocol.TierWarm, protocol.TierCold} {
		part := usage.Tiers[tier]
		out.Tiers[string(tier)] = TierStatus{part.Files, part.Bytes}
	}
	return api.OK(c, out, "Tiers found")
}

// next is when the policy moves a file; zero: it does not.
func (l *Lifecycle) next(f ledger.File, tiers []protocol.Tier) time.Time {
	switch {
	case f.Tier == protocol.TierHot && slices.Contains(tiers, protocol.TierWarm):
		return f.Accessed.Add(time.Duration(l.policy.WarmAfterDays) * day)
	case f.Tier != protocol.TierCold && slices.Contains(tiers, protocol.TierCold):
		return f.Accessed.Add(time.Duration(l.policy.ColdAfterDays) * day)
	}
	return time.Time{}
}

func orNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

func (l *Lifecycle) run(c *fiber.Ctx) error {
	var body RunBody
	if err := api.ReadJSON(c, maxBody, &body); err != nil {
		return err
	}
	days, limit := Policy{DefaultWarmAfterDays, DefaultColdAfterDays}, DefaultLimit
	for _, field := range []struct {
		name    string
		sent    *int
		into    *int
		lo, top int
	}{
		{"warm_after_days", body.WarmAfterDays, &days.WarmAfterDays, 0, maxDays},
		{"cold_after_days", body.ColdAfterDays, &days.ColdAfterDays, 0, maxDays},
		{"limit", body.Limit, &limit, 1, maxLimit},
	} {
		if field.sent == nil {
			continue
		}
		if *field.sent < field.lo || *field.sent > field.top {
			return api.BadRequest(field.name, "%s must be an integer from %s to %s", field.name, strconv.Itoa(field.lo), strconv.Itoa(field.top))
		}
		*field.into = *field.sent
	}
	if days.ColdAfterDays < days.WarmAfterDays {
		return api.Unprocessable("cold_after_days", "cold_after_days, %d, must not be before warm_after_days, %d", days.ColdAfterDays, days.WarmAfterDays)
	}
	began := l.now()
	done, err := l.Apply(l.life, Run{Org: api.CallerOf(c).OrgID, Policy: days, DryRun: body.DryRun, Limit: limit})
	if err != nil {
		return answerTo(err)
	}
	message := "Policy applied"
	switch {
	case body.DryRun:
		message = "Nothing was changed: this was a dry run"
	case done.Failed > 0:
		message = "Policy applied; " + strconv.Itoa(done.Failed) + " files could not be moved or deleted and are where they were"
	}
	return api.OK(c, RunResult{
		done.Scanned, done.ToWarm, done.ToCold, done.Deleted, done.BytesMoved, l.now().Sub(began).Milliseconds(), body.DryRun,
	}, message)
}

// answerTo turns the errors of ledger and backend into answers.
func answerTo(err error) error {
	var known *api.Error
	var e *api.Error
	switch {
	case errors.As(err, &known):
		return known
	case errors.Is(err, ledger.ErrNotFound):
		return api.NotFound("There is no such file")
	case errors.Is(err, ledger.ErrChanged):
		e = api.Conflict("Others change the file all the time")
	case errors.Is(err, protocol.ErrFull):
		e = api.Unavailable(time.Minute, "The storage backend has no room left")
	case errors.Is(err, errCopy):
		e = api.Upstream("The storage backend made a copy that is not the file; the file is where it was")
	case errors.Is(err, context.Canceled):
		e = api.Unavailable(retryAfter, "The host is stopping")
	default:
		e = api.Unavailable(retryAfter, "The storage does not answer as it should now")
	}
	e.Cause = err
	return e
}
