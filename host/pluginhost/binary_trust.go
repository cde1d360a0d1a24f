package pluginhost

import (
	"context"
	"fmt"
	"strings"

	"github.com/rivergate/rivergate/sdk/protocol"
)

// Binary is what Options.Verify judges: the private copy that is about to run, and where it came from.
type Binary struct {
	Kind   protocol.Kind
	Plugin string // the plugin's name, as in its file name
	Source string // path in the plugin folder
	Path   string // of the private copy, the very bytes that run
	SHA256 string // of the private copy, hex
	Pin    string // PLUGIN_<NAME>_SHA256; the copy has this hash. Empty: none
}

// Trust says how a binary was vouched for: "any" when it was not, else "pinned", "locked", "signed", or several of them
// with ", " between.
type Trust string

// TrustAny is that of a binary that nobody vouched for.
const TrustAny Trust = "any"

// SignatureSuffix ends the name of the file beside a binary that holds its signature.
const SignatureSuffix = ".minisig"

// isSignature tells whether a file of the plugin folder is a signature, and no plugin.
func isSignature(file string) bool { return strings.HasSuffix(file, SignatureSuffix) }

// UntrustedError: Options.Verify does not let the binary run.
type UntrustedError struct{ Err error }

func (e *UntrustedError) Error() string { return "it is not trusted: " + e.Err.Error() }
func (e *UntrustedError) Unwrap() error { return e.Err }

// trust asks Options.Verify about a private copy. It is called at each start of a process.
func (h *Host) trust(ctx context.Context, in Instance, source, copied, sum string) (Trust, error) {
	if h.opts.Verify == nil {
		return TrustAny, nil
	}
	trust, err := h.opts.Verify(ctx, Binary{Kind: in.Kind, Plugin: in.Plugin, Source: source, Path: copied, SHA256: sum, Pin: in.SHA256})
	if ctx.Err() != nil {
		return "", fmt.Errorf("verify %s: %w", source, context.Cause(ctx))
	}
	if err != nil {
		return "", &UntrustedError{err}
	}
	return trust, nil
}
