package gateway

import (
	"net/http"
	"slices"
	"time"

	"github.com/rivergate/rivergate/services/gateway/intake"
	"github.com/rivergate/rivergate/services/platform/api"
)

// The prefix of the gateway's own routes; the data routes are also mounted without it, for clients that exist.
const prefix = "/api/v1/gateway"

const (
	tagData    = "Gateway: data"
	tagWatch   = "Gateway: delivery"
	tagLetters = "Gateway: dead letters"
	tagPlugins = "Plugins"
)

// The bodies of the data routes, for the description only: the scanner reads them without decoding.

// Row is one row. Its data reach the plugin byte for byte: order of members, text of numbers, repeated keys.
type Row struct {
	Index *int32         `json:"index,omitempty" minimum:"0" description:"The well, for plate protocols: 0-based, column-major. Absent or null: none."`
	Data  map[string]any `json:"data" required:"true" nullable:"false" description:"Any values. Keys should be camelCase."`
}

// SingleBody is the body of POST /data.
type SingleBody struct {
	UUID string `json:"uuid" required:"true" minLength:"1" maxLength:"128" description:"Opaque."`
	Row  Row    `json:"row" required:"true"`
}

// BatchBody is the body of POST /data/batch.
type BatchBody struct {
	UUID string `json:"uuid" required:"true" minLength:"1" maxLength:"128" description:"Opaque."`
	Rows []Row  `json:"rows" required:"true" nullable:"false" minItems:"1"`
}

type dataParams struct {
	Wait string `query:"wait" description:"Wait for every pusher's outcome, up to this time: 5s, 500ms, or whole seconds."`
}

type batchParams struct {
	dataParams
	UUID string `query:"uuid" minLength:"1" maxLength:"128" description:"For application/x-ndjson only, where the body has no uuid."`
}

type nameParam struct {
	Name string `path:"name"`
}

type idParam struct {
	ID string `path:"id"`
}

type letterParams struct {
	Pusher string    `query:"pusher"`
	UUID   string    `query:"uuid"`
	Class  string    `query:"class"`
	Since  time.Time `query:"since" description:"Failed at this time or later."`
	Until  time.Time `query:"until" description:"Failed before this time."`
}

type letterListParams struct {
	letterParams
	Cursor string `query:"cursor" description:"next_cursor of the answer before."`
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" default:"20"`
}

type tailParams struct {
	Pusher string  `query:"pusher"`
	Sample float64 `query:"sample" exclusiveMinimum:"0" maximum:"1" default:"1" description:"Share of the rows that are shown."`
}

type deliveryParam struct {
	DeliveryID string `path:"delivery_id"`
}

// Routes declares everything that this service answers.
func (s *Service) Routes() []api.Route {
	return slices.Concat(s.dataRoutes(), s.watchRoutes(), s.letterRoutes(), s.pluginRoutes())
}

func (s *Service) dataRoutes() []api.Route {
	answers := []api.Answer{
		{Status: http.StatusAccepted, Body: api.Envelope[Accepted]{}, About: "The rows are on disk. With wait: some pusher is still going."},
		{Status: http.StatusOK, Body: api.Envelope[DeliveryState]{}, About: "With wait: every pusher has delivered or skipped all rows."},
		{Status: http.StatusMultiStatus, Body: api.Envelope[DeliveryState]{}, About: "With wait: some rows are dead letters; counts per pusher."},
	}
	errors := []int{
		http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusTooManyRequests, http.StatusServiceUnavailable,
	}
	var routes []api.Route
	for _, at := range []struct{ prefix, id string }{{"", ""}, {prefix, "Gateway"}} {
		routes = append(routes, api.Route{
			Method: http.MethodPost, Path: at.prefix + "/data", ID: "post" + at.id + "Data", Tag: tagData,
			Summary: "Accept one row", About: "202 only after the row is on disk.",
			Params: dataParams{}, Body: SingleBody{}, Answers: answers, Errors: errors,
			KeepsAnswers: true, Wrap: s.counted, Handler: s.accept(intake.Single),
		}, api.Route{
			Method: http.MethodPost, Path: at.prefix + "/data/batch", ID: "post" + at.id + "DataBatch", Tag: tagData,
			Summary: "Accept rows", About: "202 only after all rows are on disk. As application/x-ndjson: one row object a line, uuid as query parameter.",
			Params: batchParams{}, Body: BatchBody{}, Bodies: []string{lineTypes[0]}, Answers: answers, Errors: errors,
			KeepsAnswers: true, Wrap: s.counted, Handler: s.accept(intake.Batch),
		})
	}
	return routes
}

func (s *Service) watchRoutes() []api.Route {
	steered := []api.Answer{{Status: http.StatusOK, Body: api.Envelope[PusherName]{}}}
	return []api.Route{
		{
			Method: http.MethodGet, Path: prefix + "/deliveries/{delivery_id}", ID: "getDelivery", Tag: tagWatch,
			Summary: "What became of an accepted request", Params: deliveryParam{},
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[DeliveryState]{}}},
			Errors:  []int{http.StatusNotFound, http.StatusGone}, Handler: s.showDelivery,
		},
		{
			Method: http.MethodGet, Path: prefix + "/pushers", ID: "listPushers", Tag: tagWatch,
			Summary: "The destinations, how they are and what waits for them",
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[PusherList]{}}}, Handler: s.listPushers,
		},
		{
			Method: http.MethodPost, Path: prefix + "/pushers/{name}/pause", ID: "pausePusher", Tag: tagWatch,
			Summary: "Hold one destination back", About: "Idempotent. Rows keep being accepted and wait.", Params: nameParam{},
			Answers: steered, Errors: []int{http.StatusNotFound}, Handler: s.pausePusher,
		},
		{
			Method: http.MethodPost, Path: prefix + "/pushers/{name}/resume", ID: "resumePusher", Tag: tagWatch,
			Summary: "Let a destination go on", About: "Idempotent.", Params: nameParam{},
			Answers: steered, Errors: []int{http.StatusNotFound}, Handler: s.resumePusher,
		},
		{
			Method: http.MethodDelete, Path: prefix + "/pushers/{name}", ID: "forgetPusher", Tag: tagWatch,
			Summary: "Let the rows of a destination go that is gone from the configuration", Params: nameParam{},
			Answers: steered, Errors: []int{http.StatusNotFound, http.StatusConflict}, Handler: s.forgetPusher,
		},
	}
}

func (s *Service) letterRoutes() []api.Route {
	const path = prefix + "/dead-letters"
	return []api.Route{
		{
			Method: http.MethodGet, Path: path, ID: "listDeadLetters", Tag: tagLetters,
			Summary: "Rows that were not delivered, newest first", Params: letterListParams{},
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[api.List[DeadLetter]]{}}}, Handler: s.listLetters,
		},
		{
			Method: http.MethodGet, Path: path + "/export", ID: "exportDeadLetters", Tag: tagLetters,
			Summary: "All of them, one a line, oldest first", Params: letterParams{},
			Answers: []api.Answer{{Status: http.StatusOK, Type: lineTypes[0], Body: ""}}, Handler: s.exportLetters,
		},
		{
			Method: http.MethodGet, Path: path + "/{id}", ID: "getDeadLetter", Tag: tagLetters,
			Summary: "One of them", Params: idParam{},
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[DeadLetter]{}}},
			Errors:  []int{http.StatusNotFound}, Handler: s.showLetter,
		},
		{
			Method: http.MethodPost, Path: path + "/replay", ID: "replayDeadLetters", Tag: tagLetters,
			Summary: "Send rows again", About: "A row that succeeds leaves the list.", Body: ReplayBody{},
			Answers: []api.Answer{{Status: http.StatusAccepted, Body: api.Envelope[Replayed]{}}},
			Errors:  []int{http.StatusUnprocessableEntity}, Handler: s.replayLetters,
		},
		{
			Method: http.MethodDelete, Path: path, ID: "deleteDeadLetters", Tag: tagLetters,
			Summary: "Give rows up", Body: Selection{},
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Deleted]{}}},
			Errors:  []int{http.StatusUnprocessableEntity}, Handler: s.deleteLetters,
		},
		{
			Method: http.MethodGet, Path: prefix + "/tail", ID: "tail", Tag: tagWatch,
			Summary: "Accepted, delivered and dead rows as they happen", About: "Server-sent events. A reader that is too slow misses some.",
			Params:  tailParams{},
			Answers: []api.Answer{{Status: http.StatusOK, Type: "text/event-stream", Body: ""}}, Handler: s.tail,
		},
	}
}

func (s *Service) pluginRoutes() []api.Route {
	return []api.Route{
		{
			Method: http.MethodGet, Path: "/api/v1/plugins", ID: "listPlugins", Tag: tagPlugins,
			Summary: "Every plugin of every kind",
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[PluginList]{}}}, Handler: s.listPlugins,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/plugins/reload", ID: "reloadPlugins", Tag: tagPlugins,
			Summary: "Read the configuration again",
			About:   "What SIGHUP does. Only instances whose configuration changed are touched, and the answer lists them. With problems nothing changes, and details.errors lists all of them.",
			Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Reloading]{}}},
			Errors:  []int{http.StatusUnprocessableEntity, http.StatusServiceUnavailable}, Handler: s.reloadAll,
		},
		{
			Method: http.MethodPost, Path: "/api/v1/plugins/{name}/reload", ID: "reloadPlugin", Tag: tagPlugins,
			Summary: "Swap a running plugin for the binary that is on disk now",
			About:   "Starts the new binary, checks it, moves work over, drains the old one. When the new one does not start, the old one stays and the answer says why.",
			Params:  nameParam{}, Answers: []api.Answer{{Status: http.StatusOK, Body: api.Envelope[Reloaded]{}}},
			Errors: []int{http.StatusNotFound, http.StatusBadGateway}, Handler: s.reloadPlugin,
		},
	}
}
