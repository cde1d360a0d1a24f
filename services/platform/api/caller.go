package api

import (
	"net"
	"strconv"

	"github.com/gofiber/fiber/v2"
	"github.com/valyala/fasthttp"
)

// The headers that say who is calling.
const (
	HeaderOrg       = "X-Org-ID"
	HeaderUser      = "X-User-ID"
	HeaderWorkspace = "X-Workspace-ID"
)

// developmentOrg is the org of a request without X-Org-ID on a host that listens on loopback only.
const developmentOrg = 1

// maxID keeps ids exact in JSON numbers and within every database's integers.
const maxID = 1<<53 - 1

// Caller is the context of one request. Every resource belongs to one org.
type Caller struct {
	OrgID       uint64
	UserID      uint64 // 0: no user
	WorkspaceID uint64 // 0: none
	RequestID   string
}

type callerKey struct{}

// CallerOf returns the caller of this request.
func CallerOf(c *fiber.Ctx) *Caller { return callerIn(c.Context()) }

// RequestID returns the id of this request.
func RequestID(c *fiber.Ctx) string { return CallerOf(c).RequestID }

func callerIn(ctx *fasthttp.RequestCtx) *Caller {
	caller, _ := ctx.UserValue(callerKey{}).(*Caller)
	if caller == nil {
		caller = &Caller{}
		ctx.SetUserValue(callerKey{}, caller)
	}
	return caller
}

// canonicalRequestID spares each answer the search for the header's usual spelling.
var canonicalRequestID = []byte("X-Request-Id")

// Begin gives the request its id, the client's own where that can be used, and puts it on the answer.
func Begin(ctx *fasthttp.RequestCtx, ids *RequestIDs) *Caller {
	caller := &Caller{RequestID: ids.Take(ctx.Request.Header.Peek(HeaderRequestID))}
	ctx.SetUserValue(callerKey{}, caller)
	ctx.Response.Header.SetCanonical(canonicalRequestID, []byte(caller.RequestID))
	return caller
}

// Gate decides whose context headers are believed.
type Gate struct {
	// Development: every listener is loopback. A missing org means org 1.
	Development bool
	// Trusted are the networks, besides loopback, that may send context headers.
	Trusted []*net.IPNet
}

// Believes tells whether context headers from this address are believed.
func (g *Gate) Believes(ip net.IP) bool {
	if ip.IsLoopback() {
		return true
	}
	for _, network := range g.Trusted {
		if network.Contains(ip) {
			return true
		}
	}
	return false
}

// Identify reads the context headers into the request's caller. Errors: 401 from an address that may not say who it is,
// 400 for a bad value, details.field naming the header.
func (g *Gate) Identify(c *fiber.Ctx) error {
	if ip := c.Context().RemoteIP(); !g.Believes(ip) {
		return Unauthorized("Requests from this address are not accepted: it is not one of RIVERGATE_TRUSTED_PROXIES")
	}
	caller := CallerOf(c)
	var err error
	if caller.OrgID, err = idHeader(c, HeaderOrg); err != nil {
		return err
	}
	if caller.UserID, err = idHeader(c, HeaderUser); err != nil {
		return err
	}
	if caller.WorkspaceID, err = idHeader(c, HeaderWorkspace); err != nil {
		return err
	}
	if caller.OrgID == 0 {
		if !g.Development {
			return BadRequest(HeaderOrg, "%s is missing; only a host that listens on loopback alone goes without", HeaderOrg)
		}
		caller.OrgID = developmentOrg
	}
	return nil
}

// idHeader returns 0 when the header is not there.
func idHeader(c *fiber.Ctx, name string) (uint64, error) {
	text := c.Request().Header.Peek(name)
	if text == nil {
		return 0, nil
	}
	var n uint64
	for _, d := range text {
		if d -= '0'; d > 9 || n > maxID {
			n = 0
			break
		} else {
			n = n*10 + uint64(d)
		}
	}
	if n == 0 || n > maxID {
		return 0, BadRequest(name, "%s must be an integer from 1 to %s", name, strconv.Itoa(maxID))
	}
	return n, nil
}
