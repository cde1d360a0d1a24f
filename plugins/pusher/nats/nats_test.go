package main

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/plugins/internal/trouble"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// server is a connection of the test's own to a real NATS server, with a name for its stream and its subjects.
type server struct {
	jetstream.JetStream
	t    testing.TB
	url  string
	name string
}

func missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// newServer skips the test without a server, and fails it where CI=true.
func newServer(t testing.TB) *server {
	t.Helper()
	address := os.Getenv("RIVERGATE_TEST_NATS_URL")
	if address == "" {
		missing(t, "RIVERGATE_TEST_NATS_URL is not set: needs a real NATS server; deploy/services run nats -- go test ./plugins/pusher/nats")
	}
	return at(t, address)
}

func at(t testing.TB, address string, options ...nats.Option) *server {
	t.Helper()
	conn, err := nats.Connect(address, append(options, nats.MaxReconnects(-1), nats.ReconnectWait(100*time.Millisecond))...)
	require.NoError(t, err)
	closed := make(chan struct{})
	conn.SetClosedHandler(func(*nats.Conn) { close(closed) })
	js, err := jetstream.New(conn)
	require.NoError(t, err)
	s := &server{JetStream: js, t: t, url: address, name: "t-" + strings.ToLower(rand.Text()[:12])}
	t.Cleanup(func() {
		if err := js.DeleteStream(context.Background(), s.name); err != nil {
			require.ErrorIs(t, err, jetstream.ErrStreamNotFound)
		}
		conn.Close()
		<-closed
	})
	return s
}

// ownServer runs a NATS server with users of the test's own: the permissions of the shared one allow everything.
func ownServer(t testing.TB, config string) (address string) {
	t.Helper()
	program, err := exec.LookPath("nats-server")
	if err != nil {
		missing(t, "no nats-server in PATH: this test starts one with users of its own")
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "nats.conf")
	require.NoError(t, os.WriteFile(file, fmt.Appendf(nil, "listen: \"127.0.0.1:-1\"\nports_file_dir: %q\njetstream { store_dir: %q }\n%s", dir, dir, config), 0o600))
	command := exec.Command(program, "-c", file)
	require.NoError(t, command.Start())
	t.Cleanup(func() {
		require.NoError(t, command.Process.Kill())
		require.Error(t, command.Wait(), "it was killed")
	})
	var ports struct{ NATS []string }
	require.Eventually(t, func() bool {
		found, err := filepath.Glob(filepath.Join(dir, "*.ports"))
		if err != nil || len(found) != 1 {
			return false
		}
		text, err := os.ReadFile(found[0])
		return err == nil && json.Unmarshal(text, &ports) == nil && len(ports.NATS) > 0
	}, 20*time.Second, 20*time.Millisecond)
	_, address, found := strings.Cut(ports.NATS[0], "://") // nats or tls
	require.True(t, found, ports.NATS[0])
	return address
}

// config is the least configuration for the stream of the test, with more.
func (s *server) config(more map[string]any) map[string]any {
	config := map[string]any{"url": s.url, "stream": s.name, "subject": s.name + ".{uuid}"}
	for field, value := range more {
		config[field] = value
	}
	return config
}

// create makes the stream of the test.
func (s *server) create(change func(*jetstream.StreamConfig)) jetstream.Stream {
	s.t.Helper()
	config := jetstream.StreamConfig{Name: s.name, Subjects: []string{s.name + ".>"}, Discard: jetstream.DiscardNew}
	if change != nil {
		change(&config)
	}
	stream, err := s.CreateStream(s.t.Context(), config)
	require.NoError(s.t, err)
	return stream
}

func (s *server) start(more map[string]any) *plugintest.Harness {
	s.t.Helper()
	return plugintest.Start(s.t, plugin, s.config(more))
}

// stored are the messages of the stream, in its order.
func (s *server) stored() []*jetstream.RawStreamMsg {
	s.t.Helper()
	stream, err := s.Stream(s.t.Context(), s.name)
	require.NoError(s.t, err)
	state := stream.CachedInfo().State
	var all []*jetstream.RawStreamMsg
	for sequence := state.FirstSeq; state.Msgs > 0 && sequence <= state.LastSeq; sequence++ {
		m, err := stream.GetMsg(s.t.Context(), sequence)
		require.NoError(s.t, err)
		all = append(all, m)
	}
	return all
}

func (s *server) positions() []string {
	s.t.Helper()
	positions := []string{}
	for _, m := range s.stored() {
		positions = append(positions, m.Header.Get("position"))
	}
	return positions
}

func (s *server) parsed() *url.URL {
	u, err := url.Parse(s.url)
	require.NoError(s.t, err)
	return u
}

// through is the server's URL by way of another address.
func (s *server) through(address string) string {
	u := s.parsed()
	u.Host = address
	return u.String()
}

func TestRowsArriveAsTheyWereSent(t *testing.T) {
	s := newServer(t)
	s.create(nil)
	h := s.start(nil)
	frame := plugintest.Indexed(plugintest.FrameAt(1<<52, "a.b *>\n/é", `{"b": 1.50,"a":1e400}`, `{}`), 7, protocol.NoIndex)
	frame.OrgID, frame.UserID, frame.TraceParent = 42, 9, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	require.Empty(t, h.Deliver(frame))
	got := s.stored()
	require.Len(t, got, 2)
	require.Equal(t, `{"b": 1.50,"a":1e400}`, string(got[0].Data))
	position := strconv.FormatUint(1<<52, 10)
	require.Equal(t, nats.Header{
		"Nats-Msg-Id": {plugintest.Instance + "-" + position}, "Nats-Expected-Stream": {s.name}, "content-type": {"application/json"},
		"org_id": {"42"}, "uuid": {"a.b%20%2A%3E%0A%2F%C3%A9"}, "position": {position}, "index": {"7"}, "user_id": {"9"},
		"received_at": {"2026-01-02T03:04:05.678Z"}, "request_id": {"req-test"}, "traceparent": {frame.TraceParent},
	}, got[0].Header)
	require.NotContains(t, got[1].Header, "index")
}

func TestSubjectsAreMadeOfTheRowAndHostileUUIDsStayOneToken(t *testing.T) {
	s := newServer(t)
	h := s.start(map[string]any{"subject": s.name + ".{org}.{uuid}", "create_stream": true})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "0123abcd", `{}`), plugintest.FrameAt(2, "a.b.>.*", `{}`), plugintest.FrameAt(3, "%2E", `{}`), plugintest.FrameAt(4, "é\x00\r\n", `{}`)))
	var subjects []string
	for _, m := range s.stored() {
		subjects = append(subjects, strings.TrimPrefix(m.Subject, s.name))
	}
	require.Equal(t, []string{".1.0123abcd", ".1.a%2Eb%2E%3E%2E%2A", ".1.%252E", ".1.%C3%A9%00%0D%0A"}, subjects)
	stream, err := s.Stream(t.Context(), s.name)
	require.NoError(t, err)
	config := stream.CachedInfo().Config
	require.Equal(t, []string{s.name + ".*.*"}, config.Subjects)
	require.Equal(t, time.Hour, config.Duplicates)
	require.Equal(t, jetstream.DiscardNew, config.Discard)
}

func TestARowThatComesAgainIsADuplicateAndThereOnce(t *testing.T) {
	s := newServer(t)
	s.create(nil)
	require.Empty(t, s.start(nil).Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`)))
	outcomes := plugintest.ByPosition(s.start(nil).DeliverOrdered(plugintest.FrameAt(1, "a", `{}`, `{}`), plugintest.FrameAt(3, "a", `{}`)))
	require.Len(t, outcomes, 2)
	require.Equal(t, sdk.Duplicate, outcomes[1].Class)
	require.Equal(t, sdk.Duplicate, outcomes[2].Class)
	require.Equal(t, []string{"1", "2", "3"}, s.positions())
	require.Empty(t, s.start(map[string]any{"id_prefix": "other"}).Deliver(plugintest.FrameAt(1, "a", `{}`)), "the row of another gateway is another row")
	require.Len(t, s.positions(), 4)
}

func TestAPayloadThatIsTooLargeRejectsItsRowAlone(t *testing.T) {
	s := newServer(t)
	s.create(func(c *jetstream.StreamConfig) { c.MaxMsgSize = 10_000 })
	h := s.start(nil)
	text := func(size int) string { return `{"text":"` + strings.Repeat("x", size) + `"}` }
	outcomes := plugintest.ByPosition(h.DeliverOrdered(plugintest.FrameAt(1, "a", `{}`, text(2<<20), `{}`, text(20_000), `{}`)))
	require.Len(t, outcomes, 2)
	require.Equal(t, sdk.Rejected, outcomes[2].Class)
	require.Contains(t, outcomes[2].Message, "max_payload 1048576")
	require.Equal(t, sdk.Rejected, outcomes[4].Class)
	require.Equal(t, "jetstream_10054", outcomes[4].Code)
	require.Contains(t, outcomes[4].Message, "exceeds maximum")
	require.Equal(t, []string{"1", "3", "5"}, s.positions())
}

func TestASubjectThatIsTooLongOrEmptyRejectsItsRowAlone(t *testing.T) {
	s := newServer(t)
	s.create(nil)
	outcomes := plugintest.ByPosition(s.start(nil).Deliver(plugintest.FrameAt(1, "a", `{}`), plugintest.FrameAt(2, strings.Repeat("é", 600), `{}`), plugintest.FrameAt(3, "", `{}`), plugintest.FrameAt(4, "b", `{}`), plugintest.FrameAt(5, strings.Repeat("x", 3000), `{}`)))
	require.Len(t, outcomes, 2)
	for _, position := range []uint64{2, 3} {
		require.Equal(t, sdk.Rejected, outcomes[position].Class)
		require.Equal(t, "subject", outcomes[position].Code)
	}
	require.Equal(t, []string{"1", "4", "5"}, s.positions())
}

func TestAFullStreamHoldsWhatItRefusesAndLosesNothing(t *testing.T) {
	s := newServer(t)
	stream := s.create(func(c *jetstream.StreamConfig) { c.MaxMsgs = 3 })
	h := s.start(nil)
	outcomes := plugintest.ByPosition(h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`, `{}`, `{}`, `{}`)))
	require.Len(t, outcomes, 2)
	for _, position := range []uint64{4, 5} {
		require.Equal(t, sdk.Throttled, outcomes[position].Class)
		require.Equal(t, "jetstream_10077", outcomes[position].Code)
		require.Contains(t, outcomes[position].Message, "maximum messages exceeded")
	}
	require.Equal(t, []string{"1", "2", "3"}, s.positions())
	require.NoError(t, stream.Purge(t.Context()))
	require.Empty(t, h.Deliver(plugintest.FrameAt(4, "a", `{}`, `{}`)))
	require.Equal(t, []string{"4", "5"}, s.positions())
}

func TestBehindARowThatComesAgainTheOthersOfItsUUIDWait(t *testing.T) {
	s := newServer(t)
	s.create(func(c *jetstream.StreamConfig) { c.MaxBytes = 3000 })
	h := s.start(nil)
	large := `{"text":"` + strings.Repeat("x", 3000) + `"}` // finds no room, small ones do
	outcomes := plugintest.ByPosition(h.DeliverOrdered(plugintest.FrameAt(1, "u1", `{}`, large, `{}`, `{}`), plugintest.FrameAt(5, "u2", `{}`, `{}`)))
	require.Len(t, outcomes, 3)
	require.Equal(t, sdk.Throttled, outcomes[2].Class, outcomes[2].Message)
	require.Equal(t, "not_sent", outcomes[3].Code)
	require.Equal(t, "not_sent", outcomes[4].Code)
	require.ElementsMatch(t, []string{"1", "5", "6"}, s.positions(), "the other uuid goes on")
}

func TestRowsOfAUUIDStayInOrder(t *testing.T) {
	s := newServer(t)
	s.create(nil)
	var frames []protocol.Frame
	for position := uint64(1); position <= 600; position += 2 {
		frames = append(frames, plugintest.FrameAt(position, fmt.Sprintf("u%d", position%7), `{}`, `{}`))
	}
	require.Empty(t, s.start(nil).DeliverOrdered(frames...))
	last := map[string]int{}
	for _, m := range s.stored() {
		position, err := strconv.Atoi(m.Header.Get("position"))
		require.NoError(t, err)
		require.Greater(t, position, last[m.Subject])
		last[m.Subject] = position
	}
	require.Len(t, last, 7)
}

func TestAStreamThatIsMissingIsSaidBeforeRowsCome(t *testing.T) {
	s := newServer(t)
	h := s.start(nil)
	require.ErrorContains(t, h.Health(), "CREATE_STREAM")
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Equal(t, "stream", outcomes[0].Code)
	require.Contains(t, outcomes[0].Message, s.name)
	s.create(nil)
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	require.NoError(t, h.Health())
}

func TestAStreamThatAcknowledgesNothingIsSaid(t *testing.T) {
	s := newServer(t)
	s.create(func(c *jetstream.StreamConfig) { c.NoAck = true })
	require.ErrorContains(t, s.start(nil).Health(), "no_ack")
}

func TestASubjectOfNoStreamOrOfAnotherIsSaid(t *testing.T) {
	s := newServer(t)
	s.create(nil)
	outcomes := s.start(map[string]any{"subject": "nowhere-" + s.name}).Deliver(plugintest.FrameAt(1, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Equal(t, "no_stream", outcomes[0].Code)
	require.Contains(t, outcomes[0].Message, "mend SUBJECT")
	other := newServer(t)
	other.create(nil)
	outcomes = s.start(map[string]any{"subject": other.name + ".x"}).Deliver(plugintest.FrameAt(1, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Equal(t, "jetstream_10060", outcomes[0].Code)
	require.Contains(t, outcomes[0].Message, "another stream")
	require.Empty(t, other.positions(), "nothing goes elsewhere")
}

func TestAStreamThatCannotBeCreatedIsSaid(t *testing.T) {
	s := newServer(t)
	health := s.start(map[string]any{"create_stream": true, "replicas": 3}).Health() // the test's server is alone
	require.ErrorContains(t, health, "REPLICAS")
}

func TestWrongCredentialsHoldTheDestination(t *testing.T) {
	s := newServer(t)
	u := s.parsed()
	u.User = url.UserPassword(u.User.Username(), "wrong-hunter2")
	h := s.start(map[string]any{"url": u.String()})
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`))
	require.Len(t, outcomes, 2)
	require.Equal(t, sdk.Unauthenticated, outcomes[0].Class, outcomes[0].Message)
	require.Contains(t, outcomes[0].Message, u.Host)
	require.NotContains(t, outcomes[0].Message, "hunter2")
	health := h.Health()
	require.Error(t, health)
	require.NotContains(t, health.Error(), "hunter2")
}

func TestPermissionsThatAreMissingAreNamed(t *testing.T) {
	host := ownServer(t, `authorization { users = [
		{ user: all, password: x }
		{ user: row, password: x, permissions: { publish: ["$JS.API.STREAM.INFO.*", "*.allowed"], subscribe: "_INBOX.>" } }
		{ user: api, password: x, permissions: { publish: "*.allowed", subscribe: "_INBOX.>" } }
		{ user: inbox, password: x, permissions: { publish: ">", subscribe: "nothing" } } ] }`)
	s := at(t, "nats://all:x@"+host)
	s.create(nil)
	as := func(user string, more map[string]any) *plugintest.Harness {
		config := map[string]any{"url": "nats://" + user + ":x@" + host}
		for field, value := range more {
			config[field] = value
		}
		return s.start(config)
	}
	began := time.Now()
	for user, want := range map[string]string{"api": "$JS.API.STREAM.INFO." + s.name, "inbox": "_INBOX"} {
		outcomes := as(user, nil).Deliver(plugintest.FrameAt(1, "allowed", `{}`))
		require.Len(t, outcomes, 1)
		require.Equal(t, sdk.Unauthenticated, outcomes[0].Class, outcomes[0].Message)
		require.Contains(t, outcomes[0].Message, want)
	}
	outcomes := as("row", map[string]any{"subject": s.name + ".fixed"}).Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`))
	require.Len(t, outcomes, 2)
	require.Equal(t, sdk.Unauthenticated, outcomes[1].Class)
	require.Contains(t, outcomes[1].Message, s.name+".fixed")
	h := as("row", nil)
	outcomes = h.Deliver(plugintest.FrameAt(1, "denied", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Unauthenticated, outcomes[0].Class, "no row was taken yet")
	require.Empty(t, h.Deliver(plugintest.FrameAt(2, "allowed", `{}`)))
	outcomes = h.Deliver(plugintest.FrameAt(3, "denied", `{}`), plugintest.FrameAt(4, "allowed", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Rejected, outcomes[0].Class)
	require.Equal(t, uint64(3), outcomes[0].Position)
	require.Equal(t, []string{"2", "4"}, s.positions())
	require.Less(t, time.Since(began), 10*time.Second, "nothing waited for answers that never come")
}

func TestATokenLogsIn(t *testing.T) {
	host := ownServer(t, `authorization { token: "s3cret" }`)
	s := at(t, "nats://s3cret@"+host)
	s.create(nil)
	s.url = "nats://" + host
	require.Empty(t, s.start(map[string]any{"token": "s3cret"}).Deliver(plugintest.FrameAt(1, "a", `{}`)))
	outcomes := s.start(map[string]any{"token": "hunter2"}).Deliver(plugintest.FrameAt(2, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Unauthenticated, outcomes[0].Class)
	require.NotContains(t, outcomes[0].Message, "hunter2")
}

func TestAServerThatIsDownIsNoConfigurationProblem(t *testing.T) {
	h := plugintest.Start(t, plugin, map[string]any{"url": "nats://u:hunter2@127.0.0.1:1"})
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`))
	require.Len(t, outcomes, 2)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Equal(t, "connection", outcomes[0].Code)
	require.Contains(t, outcomes[0].Message, "127.0.0.1:1")
	require.Contains(t, outcomes[0].Message, "refused")
	require.NotContains(t, outcomes[0].Message, "hunter2")
	require.Error(t, h.Health())
}

func TestAServerThatIsSlowDelaysAndRowsAreThereOnce(t *testing.T) {
	s := newServer(t)
	s.create(nil)
	proxy := trouble.NewProxy(t, s.parsed().Host)
	h := s.start(map[string]any{"url": s.through(proxy.Address), "ack_timeout": "500ms", "connect_timeout": "500ms"})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	proxy.Stall()
	for _, what := range []string{"wait for acknowledgements", "connect"} {
		began := time.Now()
		outcomes := h.Deliver(plugintest.FrameAt(2, "a", `{}`, `{}`))
		require.Less(t, time.Since(began), 5*time.Second)
		require.Len(t, outcomes, 2)
		require.Equal(t, sdk.Retry, outcomes[0].Class)
		require.Equal(t, "timeout", outcomes[0].Code)
		require.Contains(t, outcomes[0].Message, what)
	}
	proxy.Resume()
	for _, o := range h.Deliver(plugintest.FrameAt(2, "a", `{}`, `{}`)) {
		require.Equal(t, sdk.Duplicate, o.Class, o.Message)
	}
	require.Equal(t, []string{"1", "2", "3"}, s.positions())
}

func TestTLSIsSpokenAndTheServerIsVerified(t *testing.T) {
	certified := httptest.NewTLSServer(nil) // for its certificate of 127.0.0.1
	defer certified.Close()
	private, err := x509.MarshalPKCS8PrivateKey(certified.TLS.Certificates[0].PrivateKey)
	require.NoError(t, err)
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certified.Certificate().Raw}), 0o600))
	require.NoError(t, os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	host := ownServer(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q }", certFile, keyFile))
	s := at(t, "tls://"+host, nats.RootCAs(certFile))
	s.create(nil)
	require.Empty(t, s.start(map[string]any{"ca_file": certFile}).Deliver(plugintest.FrameAt(1, "a", `{}`)))
	require.Equal(t, []string{"1"}, s.positions())
	outcomes := s.start(nil).Deliver(plugintest.FrameAt(2, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Contains(t, outcomes[0].Message, "certificate")
	plain := newServer(t)
	outcomes = plain.start(map[string]any{"url": strings.Replace(plain.url, "nats://", "tls://", 1)}).Deliver(plugintest.FrameAt(2, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Contains(t, outcomes[0].Message, "secure connection not available", "no password goes to a server without TLS")
}

func TestAConnectionThatEndsIsReplaced(t *testing.T) {
	s := newServer(t)
	s.create(nil)
	proxy := trouble.NewProxy(t, s.parsed().Host)
	h := s.start(map[string]any{"url": s.through(proxy.Address)})
	var want []string
	for position := uint64(1); position < 20; position++ {
		for _, o := range h.Deliver(plugintest.FrameAt(position, "a", `{}`)) { // noticed only now
			require.Equal(t, sdk.Retry, o.Class)
			for _, again := range h.Deliver(plugintest.FrameAt(position, "a", `{}`)) {
				require.Equal(t, sdk.Duplicate, again.Class, again.Message)
			}
		}
		if position%5 == 0 {
			proxy.Cut()
		}
		want = append(want, strconv.FormatUint(position, 10))
	}
	require.Equal(t, want, s.positions())
}

func TestRowsSurviveARestartOfTheServer(t *testing.T) {
	s := newServer(t)
	s.create(nil)
	h := s.start(nil)
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`, `{}`)))
	trouble.Service(t, "kill", "nats")
	outcomes := h.Deliver(plugintest.FrameAt(4, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	trouble.Service(t, "revive", "nats")
	require.Eventually(t, func() bool { return len(h.Deliver(plugintest.FrameAt(4, "a", `{}`))) == 0 }, time.Minute, 200*time.Millisecond)
	outcomes = h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`, `{}`))
	require.Len(t, outcomes, 3)
	require.Equal(t, sdk.Duplicate, outcomes[0].Class, "the server knows them again")
	require.Equal(t, []string{"1", "2", "3", "4"}, s.positions())
}

func TestBadSettingsAreNamed(t *testing.T) {
	const address, secure = "nats://127.0.0.1:1", "tls://127.0.0.1:1"
	garbled := filepath.Join(t.TempDir(), "user.creds")
	require.NoError(t, os.WriteFile(garbled, []byte("hunter2"), 0o600))
	for field, configs := range map[string][]map[string]any{
		"url": {
			{"url": "http://u:hunter2@h"}, {"url": "nats://u:hun ter2@h"}, {"url": "nats://u:hunter2@h:port"}, {"url": "nats://u:hunter2@h,tls://h"},
			{"url": address, "ca_file": "/nowhere"}, {"url": address, "insecure": true},
		},
		"subject":    {{"url": address, "subject": "{uid}"}, {"url": address, "subject": "a.*"}, {"url": address, "subject": "a.>"}, {"url": address, "subject": "a..b"}, {"url": address, "subject": "a b"}, {"url": address, "subject": "$JS.x"}},
		"stream":     {{"url": address, "stream": "a.b"}, {"url": address, "stream": "a b"}, {"url": address, "stream": strings.Repeat("x", 256)}},
		"id_prefix":  {{"url": address, "id_prefix": "{org}"}, {"url": address, "id_prefix": "a\nb"}, {"url": address, "id_prefix": "{x}"}},
		"token":      {{"url": "nats://u:hunter2@h", "token": "x"}},
		"creds_file": {{"url": address, "creds_file": "/nowhere"}, {"url": address, "creds_file": os.DevNull}, {"url": address, "creds_file": garbled}},
		"ca_file":    {{"url": secure, "ca_file": "/nowhere"}},
		"key_file":   {{"url": secure, "cert_file": "/nowhere"}},
	} {
		for _, config := range configs {
			problems := plugintest.Connect(t, plugin).Configure(config)
			require.Len(t, problems, 1, "%v", config)
			require.Equal(t, field, problems[0].Field)
			require.NotContains(t, problems[0].Reason, "hunter2")
		}
	}
}

func TestRowsAreThereOnceAfterManyKillNines(t *testing.T) {
	s := newServer(t)
	s.create(nil)
	last := trouble.KnownOnce(t, s.config(nil))
	seen := map[string]bool{}
	for _, position := range s.positions() {
		require.False(t, seen[position], "position %s is there twice", position)
		seen[position] = true
	}
	require.Len(t, seen, int(last))
	t.Logf("%d rows, none twice, none lost", last)
}
