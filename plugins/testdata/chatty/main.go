// Command chatty is a pusher that prints on standard output, before main and during Deliver, writes lines of a mebibyte
// to its log, and floods it. It proves that noise neither breaks the start nor hangs the plugin nor drowns the host.
package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/rivergate/rivergate/plugins/testdata/chatty/noise"
	"github.com/rivergate/rivergate/sdk"
)

var banner = func() bool {
	fmt.Println("chatty: a package variable prints")
	return noise.Made
}()

type chatty struct {
	Line  sdk.Bytes `config:"line" default:"1MiB" doc:"Bytes of the one long log line of each batch."`
	Lines int       `config:"lines" default:"0" min:"0" doc:"Short log lines of each batch."`

	log sdk.Logger
}

func (c *chatty) Open(_ context.Context, env sdk.Env) error {
	c.log = env.Log
	c.log.Info("chatty is open", "banner", banner, "position", uint64(1)<<52+1, "@odd", "kept")
	fmt.Fprintln(os.Stderr, "plain text on standard error")
	return nil
}

func (c *chatty) Deliver(_ context.Context, b *sdk.Batch) error {
	fmt.Println("chatty: delivering", b.Len(), "rows")
	c.log.Warn("a long line", "text", strings.Repeat("x", int(c.Line)))
	for i := range c.Lines {
		c.log.Info("one of many", "i", i)
	}
	return nil
}

func main() {
	sdk.Serve(sdk.Plugin{Name: "chatty", Version: "1.0.0", Summary: "Talks too much.", Pusher: func() sdk.Pusher { return new(chatty) }})
}
