package server

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"

	"github.com/gofiber/fiber/v2"

	"github.com/rivergate/rivergate/services/platform/api"
)

// HeaderInternalToken carries the token of /internal routes.
const HeaderInternalToken = "X-Internal-Token"

// IsLoopback tells whether an address to listen on can be reached from this machine only. A name other than localhost
// cannot be told, an empty host is every interface: both are not.
func IsLoopback(listen string) bool {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// CheckListen is the loopback rule: whoever can reach the listener can say which org he is, so an address that is not loopback
// needs to know whose word counts. The error says what to set.
func CheckListen(listen string, trusted []*net.IPNet) error {
	if _, _, err := net.SplitHostPort(listen); err != nil {
		return fmt.Errorf("RIVERGATE_LISTEN: %q is not an address with a port, such as 127.0.0.1:8080", listen)
	}
	if !IsLoopback(listen) && len(trusted) == 0 {
		return fmt.Errorf("RIVERGATE_LISTEN: %s can be reached from other machines, and anyone there could claim any organisation: "+
			"listen on 127.0.0.1, or set RIVERGATE_TRUSTED_PROXIES to the networks whose X-Org-ID and X-User-ID are believed", listen)
	}
	return nil
}

// internalToken guards /internal routes. Without a token nobody passes.
func internalToken(token string) fiber.Handler {
	want := sha256.Sum256([]byte(token))
	return func(c *fiber.Ctx) error {
		got := sha256.Sum256(c.Request().Header.Peek(HeaderInternalToken))
		if token == "" || subtle.ConstantTimeCompare(want[:], got[:]) != 1 {
			return api.Unauthorized("%s is missing or wrong", HeaderInternalToken)
		}
		return c.Next()
	}
}
