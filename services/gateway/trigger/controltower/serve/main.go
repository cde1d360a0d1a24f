// Command serve runs the control tower of the tests by itself, to try plugins that need triggers:
//
//	go run ./services/gateway/trigger/controltower/serve --listen 127.0.0.1:8000 --triggers triggers.jsonl
//
// Each line of the file is a trigger, {"uuid": …}. Without a file it makes a plain one for any uuid.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/rivergate/rivergate/services/gateway/trigger/controltower"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:8000", "address and port")
	file := flag.String("triggers", "", "file with a trigger on each line; none: a plain trigger for every uuid")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := serve(ctx, *listen, *file)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "controltower:", err)
		os.Exit(1)
	}
}

func serve(ctx context.Context, listen, file string) error {
	tower := controltower.New()
	var handler http.Handler = tower
	if file == "" {
		handler = anyUUID(tower)
	} else if err := load(tower, file); err != nil {
		return err
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	fmt.Printf("RIVERGATE_CONTROL_TOWER_URL=http://%s\n", listener.Addr())
	server := &http.Server{Handler: handler, ReadHeaderTimeout: 10 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// anyUUID knows every uuid.
func anyUUID(tower *controltower.Tower) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if uuid, ok := strings.CutPrefix(r.URL.Path, "/triggers/"); ok {
			if err := tower.Put(controltower.Plain(uuid)); err != nil {
				http.Error(w, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		tower.ServeHTTP(w, r)
	})
}

func load(tower *controltower.Tower, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // it was only read
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 16<<20)
	for n := 1; lines.Scan(); n++ {
		if strings.TrimSpace(lines.Text()) == "" {
			continue
		}
		var trigger struct {
			UUID string `json:"uuid"`
		}
		if err := json.Unmarshal(lines.Bytes(), &trigger); err != nil || trigger.UUID == "" {
			return fmt.Errorf("%s, line %d: not a trigger, a JSON object with a uuid", file, n)
		}
		tower.PutDocument(trigger.UUID, []byte(lines.Text()))
	}
	return lines.Err()
}
