package api

import (
	"net/url"
	"regexp"
	"strings"
	"unicode/utf8"

	"github.com/gofiber/fiber/v2"
)

// Route is one operation: what the router needs and what the OpenAPI document says, declared once.
type Route struct {
	Method  string
	Path    string // parameters as {name}; one of them as {name...}, which takes slashes too and is read with Rest
	ID      string // operationId, unique
	Tag     string
	Summary string
	About   string // Markdown, may be empty

	// Params is a struct whose fields are tagged path, query or header; nil: none.
	Params any
	// Body is the JSON body's type; nil: none. Bodies lists further content types that are text.
	Body   any
	Bodies []string
	// Form is the multipart/form-data body's type, its fields tagged formData; nil: none.
	Form    any
	Answers []Answer
	Errors  []int // statuses of Failure

	// Public routes answer without a caller: health, metrics, description.
	Public bool
	// AnyOrigin: pages of every origin may use it, since its URL is the credential. All routes of a path say the same.
	AnyOrigin bool
	// KeepsAnswers: the handler itself keeps the promise of Idempotency-Key. Otherwise Mount does, for POST.
	KeepsAnswers bool
	// Unkeyed: Idempotency-Key means nothing here, and is not documented; the protocol of a POST has its own way to go on.
	Unkeyed bool
	// Streams: the handler reads its body as a stream, and keeps the promise with what PromiseOf gives it.
	Streams bool
	// KeptBody is how large the body of a POST with Idempotency-Key may be, since Mount then has all of it in memory; 0: 1 MiB.
	KeptBody int64
	// Wrap goes around everything else that Mount puts around the handler; nil: nothing.
	Wrap    func(fiber.Handler) fiber.Handler
	Handler fiber.Handler
}

// Answer is one success.
type Answer struct {
	Status int
	Type   string // content type; empty: JSON
	Body   any    // Envelope[…], a bare struct, or nil for text
	About  string
}

var (
	parameter = regexp.MustCompile(`\{(\w+)\}`)
	greedy    = regexp.MustCompile(`\{(\w+)\.\.\.\}`)
)

// FiberPath is the path as Fiber writes it.
func (r *Route) FiberPath() string {
	return parameter.ReplaceAllString(greedy.ReplaceAllLiteralString(r.Path, "+"), ":$1")
}

// OpenAPIPath is the path as OpenAPI writes it, which has no word for slashes in a parameter.
func (r *Route) OpenAPIPath() string { return greedy.ReplaceAllString(r.Path, "{$1}") }

// Rest returns the parameter {name...} of the route, percent-decoded once: /a/b%2Fc%253A/ gives "a/b/c%3A/". Errors: 400.
func Rest(c *fiber.Ctx) (string, error) {
	raw := c.Params("+")
	if strings.HasSuffix(c.Route().Path, "+") { // Fiber cuts slashes off the end of a path, and here they are data
		path := c.Path()
		raw += path[len(strings.TrimRight(path, "/")):]
	}
	text, err := url.PathUnescape(raw)
	if err != nil {
		return "", BadRequest("", "A %% in the path must be followed by two hexadecimal digits")
	}
	if !utf8.ValidString(text) {
		return "", BadRequest("", "The path is not UTF-8")
	}
	return strings.Clone(text), nil // Fiber uses the memory of the path again
}

// Mount adds the routes to the router, with the caller and idempotency keys in front.
func Mount(router fiber.Router, routes []Route, gate *Gate, answers *Answers) {
	for _, r := range routes {
		handler := r.Handler
		if r.Method == fiber.MethodPost && !r.KeepsAnswers && !r.Unkeyed && !r.Public {
			if r.Streams {
				handler = answers.KeepStream(r.ID, handler)
			} else {
				handler = answers.Keep(r.ID, r.KeptBody, handler)
			}
		}
		if !r.Public {
			inner := handler
			handler = func(c *fiber.Ctx) error {
				if err := gate.Identify(c); err != nil {
					return err
				}
				return inner(c)
			}
		}
		if r.Wrap != nil {
			handler = r.Wrap(handler)
		}
		if r.AnyOrigin {
			handler = withAnyOrigin(handler)
		}
		if r.Method == fiber.MethodGet {
			router.Get(r.FiberPath(), handler)
		} else {
			router.Add(r.Method, r.FiberPath(), handler)
		}
	}
}
