package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
)

// rowBytes is the length of a row's data object.
const rowBytes = 256

// generate is the load generator: HTTP/1.1 over keep-alive connections with requests that are built once; only the uuid
// changes. It costs as little as a client can, because it shares the cores with what it measures.
func generate(ctx context.Context, in io.Reader, out io.Writer) error {
	var s spec
	if err := json.NewDecoder(in).Decode(&s); err != nil {
		return fmt.Errorf("read the load's description: %w", err)
	}
	debug.SetGCPercent(800)
	g := &generator{spec: s, run: rand.Uint64()}
	clients := make([]*client, s.Connections)
	for i := range clients {
		c, err := g.dial(ctx)
		if err != nil {
			return err
		}
		defer c.conn.Close()
		clients[i] = c
	}
	g.begin = time.Now()
	g.from = g.begin.Add(s.Warmup)
	if s.Duration > 0 {
		g.until = g.from.Add(s.Duration)
	}
	failed := make(chan error, len(clients))
	var running sync.WaitGroup
	for _, c := range clients {
		running.Go(func() {
			if err := c.work(ctx); err != nil {
				failed <- err
			}
		})
	}
	running.Wait()
	close(failed)
	if err := <-failed; err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(g.result(clients))
}

// generator is what the clients share.
type generator struct {
	spec
	run                uint64 // random: uuids of two runs differ
	begin, from, until time.Time
	next               atomic.Int64 // number of the next request
}

// client is one connection.
type client struct {
	*generator
	conn    net.Conn
	in      *bufio.Reader
	request []byte
	uuid    []byte // 16 hex digits within request

	latencies []time.Duration // of the measured requests
	sent      int64
	refused   int64
	said      string
	last      time.Time
}

func (g *generator) dial(ctx context.Context) (*client, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", g.Addr)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	c := &client{generator: g, conn: conn, in: bufio.NewReaderSize(conn, 4<<10), latencies: make([]time.Duration, 0, 1<<16)}
	c.request, c.uuid = buildRequest(g.Rows)
	return c, nil
}

const uuidMark = "0123456789abcdef"

// buildRequest makes the bytes of one request with rows rows, and says where its uuid is.
func buildRequest(rows int) (request, uuid []byte) {
	var body bytes.Buffer
	path := "/data"
	if rows == 1 {
		fmt.Fprintf(&body, `{"uuid":"%s","row":{"index":0,"data":%s}}`, uuidMark, rowData(0))
	} else {
		path = "/data/batch"
		fmt.Fprintf(&body, `{"uuid":"%s","rows":[`, uuidMark)
		for i := range rows {
			if i > 0 {
				body.WriteByte(',')
			}
			fmt.Fprintf(&body, `{"index":%d,"data":%s}`, i, rowData(i))
		}
		body.WriteString(`]}`)
	}
	request = fmt.Appendf(nil, "POST %s HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n", path, body.Len())
	head := len(request)
	request = append(request, body.Bytes()...)
	at := head + bytes.Index(request[head:], []byte(uuidMark))
	return request, request[at : at+len(uuidMark)]
}

// rowData is a row like those of a plate reader: a few measurements and a text, rowBytes long.
func rowData(i int) []byte {
	d := fmt.Appendf(nil, `{"timeElapsed":"%d","absorbance":0.%04d,"temperature":37.%d,"valid":true,"error":null,"note":"`, i*7, i%10_000, i%10)
	for len(d) < rowBytes-2 {
		d = append(d, "abcdefghijklmnop"[len(d)%16])
	}
	return append(d, `"}`...)
}

// work sends until the time is over or all requests are done.
func (c *client) work(ctx context.Context) error {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Now()) }) // the read then fails
	defer stop()
	clock := time.NewTimer(time.Hour) // one for all requests: the generator is to cost little
	defer clock.Stop()
	for {
		n := c.next.Add(1) - 1
		if c.Requests > 0 && n >= c.Requests {
			return nil
		}
		due := time.Now()
		if c.Rate > 0 {
			due = c.begin.Add(time.Duration(float64(n) / c.Rate * float64(time.Second)))
			if wait := time.Until(due); wait > 0 {
				clock.Reset(wait)
				select {
				case <-clock.C:
				case <-ctx.Done():
					return fmt.Errorf("wait for the next request: %w", ctx.Err())
				}
			}
		}
		if !c.until.IsZero() && due.After(c.until) {
			return nil
		}
		hex16(c.uuid, c.run+uint64(n)*0x9e3779b97f4a7c15) // a different one each, spread over all lanes
		if _, err := c.conn.Write(c.request); err != nil {
			return fmt.Errorf("send: %w", err)
		}
		status, err := c.answer()
		if err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		c.last = time.Now()
		if status != 202 {
			c.refused++
			continue
		}
		c.sent++
		if !due.Before(c.from) {
			c.latencies = append(c.latencies, c.last.Sub(due))
		}
	}
}

// answer reads one answer and keeps nothing of it, but the first that was not 202.
func (c *client) answer() (status int, err error) {
	line, err := c.in.ReadSlice('\n')
	if err != nil {
		return 0, err
	}
	if len(line) < 12 {
		return 0, fmt.Errorf("bad status line %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, fmt.Errorf("bad status line %q", line)
	}
	length := 0
	for {
		if line, err = c.in.ReadSlice('\n'); err != nil {
			return 0, err
		}
		if len(line) <= 2 {
			break
		}
		const name = "content-length:"
		if len(line) > len(name) && bytes.EqualFold(line[:len(name)], []byte(name)) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(name):]))); err != nil {
				return 0, fmt.Errorf("bad header %q", line)
			}
		}
	}
	if status != 202 && c.said == "" {
		body := make([]byte, length)
		if _, err := io.ReadFull(c.in, body); err != nil {
			return 0, err
		}
		c.said = fmt.Sprintf("%d %s", status, body)
		return status, nil
	}
	_, err = c.in.Discard(length)
	return status, err
}

func hex16(into []byte, v uint64) {
	const digits = "0123456789abcdef"
	for i := range 16 {
		into[i] = digits[v>>(60-4*i)&15]
	}
}

func (g *generator) result(clients []*client) result {
	r := result{Begun: g.begin, Ended: g.begin}
	var all []time.Duration
	for _, c := range clients {
		all = append(all, c.latencies...)
		r.Sent += c.sent
		r.Refused += c.refused
		if r.Said == "" {
			r.Said = c.said
		}
		if c.last.After(r.Ended) {
			r.Ended = c.last
		}
	}
	r.Rows = r.Sent * int64(g.Rows)
	r.Requests = int64(len(all))
	r.Seconds = r.Ended.Sub(g.from).Seconds()
	if len(all) > 0 {
		slices.Sort(all)
		r.P50, r.P90, r.P99, r.Max = quantile(all, 0.5), quantile(all, 0.9), quantile(all, 0.99), all[len(all)-1]
	}
	return r
}
