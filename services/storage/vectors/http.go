package vectors

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
)

const tagVectors = "Storage: vectors"

// smallBody is read at once; a larger one waits for a place.
const smallBody = 1 << 20

// UpsertBody is the body of an upsert, for the description: decodeUpsert reads it.
type UpsertBody struct {
	Collection string       `json:"collection" required:"true" minLength:"1" maxLength:"128" description:"Made with the first vectors."`
	Dimensions int          `json:"dimensions,omitempty" minimum:"1" maximum:"4096" description:"Fixed with the first vectors; absent: as many as they have."`
	Metric     string       `json:"metric,omitempty" enum:"cosine,dot,l2" description:"Fixed with the first vectors; absent: cosine."`
	Model      string       `json:"model,omitempty" maxLength:"128" description:"What made the vectors. Kept; vectors of another model are refused then."`
	Vectors    []VectorBody `json:"vectors" required:"true" nullable:"false" minItems:"1" maxItems:"1000"`
}

// VectorBody is one vector.
type VectorBody struct {
	ID       string         `json:"id" required:"true" minLength:"1" maxLength:"512" description:"A vector of that id is replaced."`
	Values   []float32      `json:"values" required:"true" nullable:"false" minItems:"1" maxItems:"4096"`
	Metadata map[string]any `json:"metadata,omitempty" description:"Up to 32 KiB. Filters look at its members."`
	Text     string         `json:"text,omitempty" description:"What the vector was made of, up to 64 KiB; kept."`
}

// UpsertAnswer is what was stored.
type UpsertAnswer struct {
	Collection string `json:"collection" required:"true"`
	Upserted   int    `json:"upserted" required:"true"`
	Inserted   int    `json:"inserted" required:"true"`
	Updated    int    `json:"updated" required:"true"`
	Dimensions int    `json:"dimensions" required:"true"`
	Model      string `json:"model,omitempty"`
}

// SearchBody is the body of a search, for the description.
type SearchBody struct {
	Collection      string         `json:"collection" required:"true" minLength:"1" maxLength:"128"`
	Vector          []float32      `json:"vector,omitempty" maxItems:"4096" description:"This or text."`
	Text            string         `json:"text,omitempty" maxLength:"65536" description:"Made a vector by the default embedder (hashed words, 384 dimensions)."`
	TopK            int            `json:"top_k,omitempty" minimum:"1" maximum:"100" default:"10"`
	Filter          map[string]any `json:"filter,omitempty" description:"{\"field\": value} or {\"field\": {\"$gte\": 1, \"$lt\": 5}}; operators $eq, $in, $gt, $gte, $lt, $lte; all must hold. Exact, and applied first: top_k are found whenever so many are under it."`
	MinScore        float64        `json:"min_score,omitempty" description:"Matches below it are left out."`
	IncludeValues   bool           `json:"include_values,omitempty"`
	IncludeMetadata bool           `json:"include_metadata,omitempty" default:"true"`
	Exact           bool           `json:"exact,omitempty" description:"Compare every vector, whatever the size of the collection."`
}

// SearchAnswer is what was found.
type SearchAnswer struct {
	Collection string        `json:"collection" required:"true"`
	Matches    []MatchAnswer `json:"matches" required:"true" nullable:"false" description:"Best first."`
	Total      int           `json:"total" required:"true" description:"Vectors under the filter."`
	Exact      bool          `json:"exact" required:"true" description:"Every vector under the filter was compared; otherwise an index was used, whose recall is 0.95 or better."`
}

// MatchAnswer is one of them.
type MatchAnswer struct {
	ID       string          `json:"id" required:"true"`
	Score    float64         `json:"score" required:"true" description:"Higher is nearer. cosine: of the angle, -1 to 1. dot: the inner product. l2: 1/(1+d) of the Euclidean distance d."`
	Metadata json.RawMessage `json:"metadata,omitempty" description:"As it was sent; {} without any."`
	Values   []float32       `json:"values,omitempty"`
}

// DeleteBody is the body of a delete: one of ids, filter and delete_all.
type DeleteBody struct {
	Collection string          `json:"collection" required:"true" minLength:"1" maxLength:"128"`
	IDs        *[]string       `json:"ids,omitempty" maxItems:"1000"`
	Filter     json.RawMessage `json:"filter,omitempty" description:"As in a search; not empty."`
	DeleteAll  bool            `json:"delete_all,omitempty" description:"The collection stays, with its dimensions and metric."`
}

// DeleteAnswer is how many were there.
type DeleteAnswer struct {
	Collection string `json:"collection" required:"true"`
	Deleted    int    `json:"deleted" required:"true"`
}

// Routes declares what this package answers.
func (v *Vectors) Routes() []api.Route {
	return []api.Route{
		{
			Method: http.MethodPost, Path: "/internal/vectors/upsert", ID: "upsertVectors", Tag: tagVectors,
			Summary: "Store vectors", About: "All of them or none. Found by the very next search, on every host.",
			Body: UpsertBody{}, Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[UpsertAnswer]{}}},
			Errors:  []int{http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusServiceUnavailable},
			Handler: v.upsert,
		},
		{
			Method: http.MethodPost, Path: "/internal/vectors/search", ID: "searchVectors", Tag: tagVectors,
			Summary: "Find the nearest vectors",
			Body:    SearchBody{}, Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[SearchAnswer]{}}},
			Errors:  []int{http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusServiceUnavailable},
			Handler: v.search,
		},
		{
			Method: http.MethodPost, Path: "/internal/vectors/delete", ID: "deleteVectors", Tag: tagVectors,
			Summary: "Delete vectors", About: "Gone for the very next search, on every host.",
			Body: DeleteBody{}, Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[DeleteAnswer]{}}},
			Errors:  []int{http.StatusNotFound, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusServiceUnavailable},
			Handler: v.delete,
		},
	}
}

func (v *Vectors) upsert(c *fiber.Ctx) error {
	ctx, cancel := context.WithTimeout(c.UserContext(), v.options.Timeout)
	defer cancel()
	if n := c.Request().Header.ContentLength(); n < 0 || n > smallBody {
		select {
		case v.decoding <- struct{}{}:
			defer func() { <-v.decoding }()
		case <-ctx.Done():
			return answerTo(ctx.Err())
		}
	}
	body, err := api.ReadBody(c, MaxBody)
	if err != nil {
		return err
	}
	if err := api.WantType(c, api.IsJSON, api.JSON); err != nil {
		return err
	}
	u, err := decodeUpsert(body)
	if err != nil {
		return answerTo(err)
	}
	done, err := v.Upsert(ctx, api.CallerOf(c).OrgID, u)
	if err != nil {
		return answerTo(err)
	}
	return api.OK(c, UpsertAnswer{
		Collection: u.Collection, Upserted: len(u.Vectors), Inserted: done.Inserted, Updated: done.Updated,
		Dimensions: done.Dimensions, Model: done.Model,
	}, "Vectors stored")
}

func (v *Vectors) search(c *fiber.Ctx) error {
	ctx, cancel := context.WithTimeout(c.UserContext(), v.options.Timeout)
	defer cancel()
	body, err := api.ReadBody(c, smallBody)
	if err != nil {
		return err
	}
	if err := api.WantType(c, api.IsJSON, api.JSON); err != nil {
		return err
	}
	q, includeMetadata, err := decodeSearch(body)
	if err != nil {
		return answerTo(err)
	}
	r, err := v.Search(ctx, api.CallerOf(c).OrgID, q)
	if err != nil {
		return answerTo(err)
	}
	answer := SearchAnswer{Collection: q.Collection, Matches: make([]MatchAnswer, 0, len(r.Matches)), Total: r.Total, Exact: r.Exact}
	for _, m := range r.Matches {
		match := MatchAnswer{ID: m.ID, Score: m.Score, Values: m.Values}
		if includeMetadata {
			match.Metadata = json.RawMessage("{}")
			if m.Metadata != "" {
				match.Metadata = json.RawMessage(m.Metadata)
			}
		}
		answer.Matches = append(answer.Matches, match)
	}
	return api.OK(c, answer, "Vectors searched")
}

func (v *Vectors) delete(c *fiber.Ctx) error {
	ctx, cancel := context.WithTimeout(c.UserContext(), v.options.Timeout)
	defer cancel()
	var b DeleteBody
	if err := api.ReadJSON(c, smallBody, &b); err != nil {
		return err
	}
	filter, err := ParseFilter(b.Filter)
	if err != nil {
		return answerTo(err)
	}
	given := 0
	for _, is := range []bool{b.IDs != nil, b.DeleteAll, len(b.Filter) > 0 && string(b.Filter) != "null"} {
		if is {
			given++
		}
	}
	d := &Delete{Collection: b.Collection, Filter: filter, All: b.DeleteAll}
	switch {
	case given != 1:
		return api.BadRequest("ids", "Exactly one of ids, filter and delete_all must be there")
	case b.IDs != nil && (len(*b.IDs) == 0 || len(*b.IDs) > MaxVectors):
		return api.BadRequest("ids", "ids must be 1 to %d", MaxVectors)
	case b.IDs != nil:
		d.IDs = *b.IDs
	case !d.All && len(filter) == 0:
		return api.BadRequest("filter", "filter must have a condition; to delete everything send delete_all")
	}
	deleted, err := v.Delete(ctx, api.CallerOf(c).OrgID, d)
	if err != nil {
		return answerTo(err)
	}
	return api.OK(c, DeleteAnswer{b.Collection, deleted}, "Vectors deleted")
}

// answerTo turns the errors of this package into answers; others pass as they are.
func answerTo(err error) error {
	malformed, refused := reasonOf(err)
	switch {
	case malformed != nil && malformed.Field == "":
		return &api.Error{Status: http.StatusBadRequest, Message: malformed.Reason, Details: &api.Details{Offset: &malformed.Offset}, Cause: err}
	case malformed != nil:
		return api.BadRequest(malformed.Field, "%s", malformed.Error())
	case refused != nil:
		return api.Unprocessable(refused.Field, "Nothing was stored: %s", refused.Error())
	case errors.Is(err, ErrNoCollection):
		return api.NotFound("There is no such collection")
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		e := api.Unavailable(0, "The host did not get to it in time")
		e.Cause = err
		return e
	}
	return api.Internal(err)
}
