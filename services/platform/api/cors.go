package api

import (
	"bytes"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// everyOrigin is the origin that stands for all.
const everyOrigin = "*"

// exposed are the headers of answers that a page's script may read, beside those that it always may.
var exposed = strings.Join([]string{
	fiber.HeaderETag, fiber.HeaderContentLength, fiber.HeaderContentRange, fiber.HeaderAcceptRanges, fiber.HeaderContentDisposition,
	fiber.HeaderLocation, fiber.HeaderRetryAfter, fiber.HeaderAllow, HeaderRequestID,
	"Tus-Resumable", "Tus-Version", "Tus-Extension", "Tus-Checksum-Algorithm", "Tus-Max-Size",
	"Upload-Offset", "Upload-Length", "Upload-Expires", "Upload-Metadata", "X-Object-Name", "X-Storage-File-ID",
}, ", ")

const (
	// preflightAge is how long a browser may remember a preflight; Chromium takes no more.
	preflightAge = 2 * time.Hour
	// maxRequestedHeaders bounds what is echoed to a preflight, bytes.
	maxRequestedHeaders = 2 << 10
)

// internalPrefix begins the routes for other services, which no page has a part in.
var internalPrefix = []byte("/internal/")

// CORS lets pages of other origins use the routes: https://fetch.spec.whatwg.org/#http-cors-protocol. It stands before the router,
// so that refusals carry its headers, too: without them a script sees neither status nor message. (Fiber's middleware stands
// behind it, and answers a preflight of any path, with the same methods for all.)
type CORS struct {
	every   bool
	origins map[string]bool
	// preflights has the routes' paths under OPTIONS; what is none of them goes to next.
	preflights, next fasthttp.RequestHandler
}

// CheckOrigins says what is wrong with a list of origins for NewCORS; empty: nothing.
func CheckOrigins(origins []string) string {
	for _, origin := range origins {
		if origin == everyOrigin {
			if len(origins) > 1 {
				return "* is every origin: name it alone, or leave it out"
			}
			continue
		}
		at, err := url.Parse(origin)
		if err != nil || at.Scheme == "" || at.Host == "" {
			return fmt.Sprintf("%q is no origin: a scheme and a host, such as https://app.example.com, or * for every one", origin)
		}
		host := at.Host
		if port := at.Port(); at.Scheme == "https" && port == "443" || at.Scheme == "http" && port == "80" {
			host = strings.TrimSuffix(host, ":"+port)
		}
		if strings.ContainsFunc(host, func(r rune) bool { return r > '~' }) {
			return fmt.Sprintf("%q is not what a browser sends as the origin: write the host as xn--…", origin)
		}
		if sent := at.Scheme + "://" + strings.ToLower(host); sent != origin {
			return fmt.Sprintf("%q is not what a browser sends as the origin: write %s", origin, sent)
		}
	}
	return ""
}

// NewCORS allows the origins, which CheckOrigins has checked; none: only routes with AnyOrigin can be used by pages. next is the
// router of the routes.
func NewCORS(origins []string, routes []Route, next fasthttp.RequestHandler) *CORS {
	x := &CORS{every: slices.Contains(origins, everyOrigin), origins: map[string]bool{}, next: next}
	for _, origin := range origins {
		x.origins[origin] = true
	}
	app := fiber.New(fiber.Config{DisableStartupMessage: true})
	methods, open := map[string][]string{}, map[string]bool{}
	var paths []string // in the order of the routes, which is that of their precedence
	for _, r := range routes {
		path := r.FiberPath()
		if strings.HasPrefix(path, string(internalPrefix)) {
			continue
		}
		if methods[path] == nil {
			paths = append(paths, path)
		}
		methods[path] = append(methods[path], r.Method)
		if r.Method == fiber.MethodGet {
			methods[path] = append(methods[path], fiber.MethodHead)
		}
		open[path] = open[path] || r.AnyOrigin
	}
	for _, path := range paths {
		app.Options(path, preflight(methods[path], open[path]))
	}
	app.Use(func(c *fiber.Ctx) error {
		next(c.Context())
		return nil
	})
	x.preflights = app.Handler()
	return x
}

// preflight answers for the routes of one path; a method that is none of theirs may be one of the next path that matches.
func preflight(methods []string, anyOrigin bool) fiber.Handler {
	list := strings.Join(methods, ", ")
	return func(c *fiber.Ctx) error {
		header := &c.Response().Header
		if !slices.Contains(methods, c.Get(fiber.HeaderAccessControlRequestMethod)) {
			return c.Next()
		}
		if anyOrigin {
			allowAny(header)
		}
		if len(header.Peek(fiber.HeaderAccessControlAllowOrigin)) == 0 {
			return c.Next()
		}
		header.Del(fiber.HeaderAccessControlExposeHeaders) // there is nothing to read here
		c.Vary(fiber.HeaderOrigin, fiber.HeaderAccessControlRequestMethod, fiber.HeaderAccessControlRequestHeaders)
		header.Set(fiber.HeaderAccessControlAllowMethods, list)
		header.Set(fiber.HeaderAccessControlMaxAge, strconv.Itoa(int(preflightAge/time.Second)))
		if wanted := c.Request().Header.Peek(fiber.HeaderAccessControlRequestHeaders); areNames(wanted) {
			header.SetBytesV(fiber.HeaderAccessControlAllowHeaders, wanted)
		}
		c.Status(fiber.StatusNoContent)
		return nil
	}
}

// areNames: a list of header names, which may be echoed. A browser refuses the request when it is not.
func areNames(list []byte) bool {
	if len(list) == 0 || len(list) > maxRequestedHeaders {
		return false
	}
	for _, c := range list {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case c == '-', c == '_', c == '.', c == ',', c == ' ':
		default:
			return false
		}
	}
	return true
}

// Serve answers preflights, and lets the router answer everything else.
func (x *CORS) Serve(ctx *fasthttp.RequestCtx) {
	x.Allow(ctx)
	header := &ctx.Request.Header
	if ctx.IsOptions() && len(header.Peek(fiber.HeaderOrigin)) > 0 && len(header.Peek(fiber.HeaderAccessControlRequestMethod)) > 0 {
		x.preflights(ctx)
		return
	}
	x.next(ctx)
}

// Allow puts on the answer whether the page that asks may see it.
func (x *CORS) Allow(ctx *fasthttp.RequestCtx) {
	if len(x.origins) == 0 {
		return
	}
	path := ctx.Path()
	if len(path) >= len(internalPrefix) && bytes.EqualFold(path[:len(internalPrefix)], internalPrefix) {
		return
	}
	header := &ctx.Response.Header
	if x.every {
		allowAny(header)
		return
	}
	header.Add(fiber.HeaderVary, fiber.HeaderOrigin)
	origin := ctx.Request.Header.Peek(fiber.HeaderOrigin)
	if !x.origins[string(origin)] {
		return
	}
	header.SetBytesV(fiber.HeaderAccessControlAllowOrigin, origin)
	header.Set(fiber.HeaderAccessControlAllowCredentials, "true") // the cookies of a proxy in front that knows who it is
	header.Set(fiber.HeaderAccessControlExposeHeaders, exposed)
}

// allowAny lets every page see the answer, without credentials; one that was allowed by its name keeps what it has.
func allowAny(header *fasthttp.ResponseHeader) {
	if len(header.Peek(fiber.HeaderAccessControlAllowOrigin)) == 0 {
		header.Set(fiber.HeaderAccessControlAllowOrigin, everyOrigin)
		header.Set(fiber.HeaderAccessControlExposeHeaders, exposed)
	}
}

// withAnyOrigin goes around the handler of a route with AnyOrigin.
func withAnyOrigin(next fiber.Handler) fiber.Handler {
	return func(c *fiber.Ctx) error {
		allowAny(&c.Response().Header)
		return next(c)
	}
}
