package rig

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"
)

// Client speaks the HTTP contract to one host.
type Client struct {
	URL  string
	http *http.Client
}

// NewClient returns a client of its own connections.
func NewClient(base string) Client {
	transport := &http.Transport{MaxIdleConns: 256, MaxIdleConnsPerHost: 256, IdleConnTimeout: 30 * time.Second}
	return Client{URL: base, http: &http.Client{Transport: transport, Timeout: 60 * time.Second}}
}

// Answer is an HTTP answer, read to its end.
type Answer struct {
	Status int
	Header http.Header
	Body   []byte
}

// Do sends a request. Any answer is a success here.
func (c Client) Do(ctx context.Context, method, path string, header http.Header, body []byte) (Answer, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.URL+path, bytes.NewReader(body))
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	for name, values := range header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	res, err := c.http.Do(req)
	if err != nil {
		return Answer{}, err
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		return Answer{}, fmt.Errorf("%s %s: read the answer: %w", method, path, err)
	}
	return Answer{Status: res.StatusCode, Header: res.Header, Body: raw}, nil
}

// Post sends a JSON body.
func (c Client) Post(ctx context.Context, path string, body []byte) (Answer, error) {
	return c.Do(ctx, http.MethodPost, path, nil, body)
}

// Forget closes idle connections, so that the next request dials.
func (c Client) Forget() { c.http.CloseIdleConnections() }

// call sends a request that must succeed and decodes the data of its envelope into out.
func (c Client) call(ctx context.Context, method, path string, in, out any) error {
	var body []byte
	if in != nil {
		var err error
		if body, err = json.Marshal(in); err != nil {
			return err
		}
	}
	a, err := c.Do(ctx, method, path, nil, body)
	if err != nil {
		return err
	}
	if a.Status/100 != 2 {
		return fmt.Errorf("%s %s answered %d: %s", method, path, a.Status, a.Body)
	}
	if out == nil {
		return nil
	}
	envelope := struct{ Data any }{Data: out}
	if err := json.Unmarshal(a.Body, &envelope); err != nil {
		return fmt.Errorf("%s %s: decode %s: %w", method, path, a.Body, err)
	}
	return nil
}

// Pusher is an item of GET /api/v1/gateway/pushers.
type Pusher struct {
	Name           string `json:"name"`
	Binary         string `json:"binary"`
	Version        string `json:"version"`
	State          string `json:"state"`
	Reason         string `json:"reason"`
	LagRows        int64  `json:"lag_rows"`
	DeliveredTotal int64  `json:"delivered_total"`
	DeadTotal      int64  `json:"dead_total"`
	Restarts       int    `json:"restarts"`
	LastError      string `json:"last_error"`
}

// Pushers lists the pushers.
func (c Client) Pushers(ctx context.Context) ([]Pusher, error) {
	var data struct{ Pushers []Pusher }
	err := c.call(ctx, http.MethodGet, "/api/v1/gateway/pushers", nil, &data)
	return data.Pushers, err
}

// Pusher returns one of them.
func (c Client) Pusher(ctx context.Context, name string) (Pusher, error) {
	all, err := c.Pushers(ctx)
	if err != nil {
		return Pusher{}, err
	}
	for _, p := range all {
		if p.Name == name {
			return p, nil
		}
	}
	return Pusher{}, fmt.Errorf("no pusher %q among %v", name, all)
}

// PausePusher stops the delivery of one pusher; ResumePusher lets it go on.
func (c Client) PausePusher(ctx context.Context, pusher string) error {
	return c.call(ctx, http.MethodPost, "/api/v1/gateway/pushers/"+pusher+"/pause", nil, nil)
}

// ResumePusher undoes PausePusher.
func (c Client) ResumePusher(ctx context.Context, pusher string) error {
	return c.call(ctx, http.MethodPost, "/api/v1/gateway/pushers/"+pusher+"/resume", nil, nil)
}

// Plugin is an item of GET /api/v1/plugins.
type Plugin struct {
	Name     string `json:"name"`
	Kind     string `json:"kind"`
	State    string `json:"state"`
	Restarts int    `json:"restarts"`
	PID      int    `json:"pid"`
	RSSBytes int64  `json:"rss_bytes"`
}

// Plugins lists every plugin.
func (c Client) Plugins(ctx context.Context) ([]Plugin, error) {
	var data struct{ Plugins []Plugin }
	err := c.call(ctx, http.MethodGet, "/api/v1/plugins", nil, &data)
	return data.Plugins, err
}

// PluginPID returns the process of a plugin that runs now.
func (c Client) PluginPID(ctx context.Context, name string) (int, error) {
	all, err := c.Plugins(ctx)
	if err != nil {
		return 0, err
	}
	for _, p := range all {
		if p.Name == name && p.PID > 0 {
			return p.PID, nil
		}
	}
	return 0, fmt.Errorf("no process of plugin %q among %v", name, all)
}

// DeadLetter is an item of GET /api/v1/gateway/dead-letters.
type DeadLetter struct {
	ID         string          `json:"id"`
	Pusher     string          `json:"pusher"`
	DeliveryID string          `json:"delivery_id"`
	UUID       string          `json:"uuid"`
	Index      *int            `json:"index"`
	Data       json.RawMessage `json:"data"`
	Class      string          `json:"class"`
	Code       string          `json:"code"`
	Message    string          `json:"message"`
	Attempts   int             `json:"attempts"`
}

// DeadLetters lists all dead letters of one pusher, page by page.
func (c Client) DeadLetters(ctx context.Context, pusher string) ([]DeadLetter, error) {
	var all []DeadLetter
	query := url.Values{"pusher": {pusher}, "limit": {"100"}}
	for {
		var page struct {
			Items      []DeadLetter    `json:"items"`
			NextCursor json.RawMessage `json:"next_cursor"`
		}
		if err := c.call(ctx, http.MethodGet, "/api/v1/gateway/dead-letters?"+query.Encode(), nil, &page); err != nil {
			return nil, err
		}
		all = append(all, page.Items...)
		var next string
		_ = json.Unmarshal(page.NextCursor, &next) // absent or null: the last page
		if next == "" || len(page.Items) == 0 {
			return all, nil
		}
		query.Set("cursor", next)
	}
}

// Replay sends the dead letters with these ids again.
func (c Client) Replay(ctx context.Context, ids ...string) (replayed int, err error) {
	var data struct{ Replayed int }
	err = c.call(ctx, http.MethodPost, "/api/v1/gateway/dead-letters/replay", map[string]any{"ids": ids}, &data)
	return data.Replayed, err
}

// Delivery is GET /api/v1/gateway/deliveries/{id}.
type Delivery struct {
	DeliveryID string `json:"delivery_id"`
	UUID       string `json:"uuid"`
	Rows       int    `json:"rows"`
	Pushers    []struct {
		Name      string `json:"name"`
		State     string `json:"state"`
		Delivered int    `json:"delivered"`
		Skipped   int    `json:"skipped"`
		Dead      int    `json:"dead"`
		Attempts  int    `json:"attempts"`
		LastError string `json:"last_error"`
	} `json:"pushers"`
}

// Delivery looks one up.
func (c Client) Delivery(ctx context.Context, id string) (Delivery, error) {
	var d Delivery
	err := c.call(ctx, http.MethodGet, "/api/v1/gateway/deliveries/"+url.PathEscape(id), nil, &d)
	return d, err
}

// CaughtUp waits until none of the named pushers lags.
func (c Client) CaughtUp(ctx context.Context, within time.Duration, names ...string) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	var last any
	for {
		all, err := c.Pushers(ctx)
		behind := len(names)
		for _, p := range all {
			for _, n := range names {
				if p.Name == n && p.LagRows == 0 {
					behind--
				}
			}
		}
		if err == nil && behind == 0 {
			return nil
		}
		if last = all; err != nil {
			last = err
		}
		if err := Pause(ctx, 10*time.Millisecond); err != nil {
			return fmt.Errorf("pushers %v did not catch up within %s; last seen: %+v", names, within, last)
		}
	}
}

// Running waits until the plugin of the pusher runs. It gives up at once when the host calls it failed.
func (c Client) Running(ctx context.Context, name string, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	for {
		p, err := c.Pusher(ctx, name)
		switch {
		case err == nil && (p.State == "running" || p.State == "paused"):
			return nil
		case err == nil && p.State == "failed":
			return fmt.Errorf("pusher %s failed: %s", name, p.Reason)
		}
		if waitErr := Pause(ctx, 5*time.Millisecond); waitErr != nil {
			return fmt.Errorf("pusher %s does not run: %w (%+v, %w)", name, waitErr, p, err)
		}
	}
}
