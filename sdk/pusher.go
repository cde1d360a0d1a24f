// Package sdk is what the author of a Rivergate plugin imports.
//
// A pusher is a struct with config tags and one method. The host starts the binary, fills the struct from the operator's
// PLUGIN_<NAME>_… variables, and calls Deliver with batches of rows until it tells the plugin to stop:
//
//	type Acme struct {
//		URL   string     `config:"url" required:"true" format:"uri" doc:"Where rows go."`
//		Token sdk.Secret `config:"token" doc:"Bearer token."`
//	}
//
//	func (a *Acme) Deliver(ctx context.Context, b *sdk.Batch) error {
//		for row := range b.Rows() {
//			if err := a.post(ctx, row.JSON()); err != nil {
//				b.Fail(row, err) // sent again later; the other rows are done
//			}
//		}
//		return nil
//	}
//
//	func main() {
//		sdk.Serve(sdk.Plugin{Name: "acme", Version: "1.0.0", Summary: "Posts rows to Acme.",
//			Pusher: func() sdk.Pusher { return new(Acme) }})
//	}
package sdk

import "context"

// Pusher takes rows to a destination. The SDK makes one value per instance and fills its config fields before any call.
type Pusher interface {
	// Deliver takes one batch to the destination. It is called once at a time per instance, in the order in which the
	// host sent the batches. ctx ends when the stream breaks or at a forced stop, and has no deadline of its own: bound what
	// you wait for, well below the host's PLUGIN_<NAME>_TIMEOUT, and fail the rows. A plugin that acknowledges nothing for so
	// long is killed as wedged, and a row on which that happens three times, alone, goes to the dead letters.
	//
	// A row for which nothing is said was delivered, durably: after nil the host never sends it again. Say otherwise with
	// the methods of Batch. A returned error applies to each row for which nothing was said: an *Error by its class,
	// any other error as Retry. The host may send a row twice (after a crash, or a lost acknowledgement): use
	// Row.Position to recognise it.
	//
	// Under ORDER=key (b.Ordered) Rows keeps the order: it leaves out the rows of a uuid behind one that failed, and has them
	// sent again with it. A pusher that reads b.Frames itself, or runs ahead, must do as much.
	//
	// With Plugin.Parallel it is called for so many batches at once; they are acknowledged in their order. Under
	// ORDER=key the rows of a uuid are in one of them only, so the calls need not wait for each other.
	Deliver(ctx context.Context, b *Batch) error
}

// Opener is for a pusher that has something to open: connections, files. Called once, after the config fields are filled and before
// the first Deliver; ctx is for the opening only. An error is shown to the operator as a configuration problem and the host tries again with backoff;
// wrap it with FieldError to name the variable. After an error Close is not called: release what was opened.
type Opener interface {
	Open(ctx context.Context, env Env) error
}

// HealthChecker is for a pusher that can tell whether it works, without side effects and within a second. It may be called
// while Deliver runs.
// Without it, an instance that is open counts as healthy.
type HealthChecker interface {
	Health(ctx context.Context) error
}

// Closer is for a pusher that must flush or release something. Called once, after the last Deliver has returned.
type Closer interface {
	Close(ctx context.Context) error
}

// Env is what an instance gets beside its configuration.
type Env struct {
	Instance string // its name, as the operator sees it
	Log      Logger
}
