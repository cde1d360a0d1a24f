package e2e

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/host/e2e/rig"
)

// load is a number of clients that POST without pause. Each has a uuid of its own, sends one request at a time and never
// the same row twice.
type load struct {
	*ledger
	stop func() // ends it and waits for the last answers
}

type loadOptions struct {
	clients int
	rows    int           // per request
	pause   time.Duration // between two requests of a client
	// shape returns the members of row seq after "seq", such as `,"crash":true`; nil: none.
	shape func(seq int) string
	// starts is told of each uuid before its first row; nil: nobody asks.
	starts func(uuid string)
}

const rowBytes = 256

// startLoad sends to one address, whatever host listens there at the time. The test's end stops it.
func startLoad(t *testing.T, url string, o loadOptions) *load {
	t.Helper()
	var raw [4]byte
	_, err := rand.Read(raw[:])
	require.NoError(t, err)
	run := hex.EncodeToString(raw[:])

	ctx, cancel := context.WithCancel(t.Context())
	client := rig.NewClient(url)
	l := &load{ledger: newLedger()}
	var running sync.WaitGroup
	for c := range o.clients {
		uuid := fmt.Sprintf("%s-%03d", run, c)
		if o.starts != nil {
			o.starts(uuid)
		}
		running.Go(func() { l.post(ctx, client, uuid, o) })
	}
	l.stop = func() {
		cancel()
		running.Wait()
		client.Forget()
	}
	t.Cleanup(l.stop)
	return l
}

func (l *load) post(ctx context.Context, client rig.Client, uuid string, o loadOptions) {
	for from := 0; ctx.Err() == nil; from += o.rows {
		// The last request is finished, not cut off: a cancelled request would be one more without an answer.
		asking, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
		answer, err := client.Post(asking, "/data/batch", batch(uuid, from, o.rows, o.shape))
		cancel()
		l.answered(uuid, from, o.rows, answer, err)
		wait := o.pause
		if err != nil || answer.Status != 202 {
			wait = max(wait, 10*time.Millisecond) // the host is away or refuses: look again soon
		}
		if wait > 0 && rig.Pause(ctx, wait) != nil {
			return
		}
	}
}

// batch is a body of /data/batch with rows whose data is rowBytes long and begins with its sequence.
func batch(uuid string, from, rows int, shape func(int) string) []byte {
	b := make([]byte, 0, rows*(rowBytes+16)+64)
	b = append(b, `{"uuid":"`...)
	b = append(b, uuid...)
	b = append(b, `","rows":[`...)
	for i := range rows {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"data":`...)
		b = append(b, row(from+i, shape)...)
		b = append(b, '}')
	}
	return append(b, `]}`...)
}

func row(seq int, shape func(int) string) string {
	var b strings.Builder
	b.Write(seqMember)
	b.WriteString(strconv.Itoa(seq))
	if shape != nil {
		b.WriteString(shape(seq))
	}
	b.WriteString(`,"pad":"`)
	for b.Len() < rowBytes-2 {
		b.WriteByte('x')
	}
	b.WriteString(`"}`)
	return b.String()
}

// reaches waits until the ledger holds n rows more than it does now.
func (l *load) reaches(t *testing.T, more int, within time.Duration) {
	t.Helper()
	goal := l.count() + more
	eventually(t, within, fmt.Sprintf("%d more rows accepted (now %d of %d)", more, l.count(), goal),
		func(context.Context) bool { return l.count() >= goal })
}
