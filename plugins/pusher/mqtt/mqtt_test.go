package main

import (
	"context"
	"crypto/rand"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/eclipse/paho.golang/packets"
	"github.com/eclipse/paho.golang/paho"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/plugins/internal/trouble"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker is a real MQTT 5 broker, with a prefix for the topics of the test and a subscriber to all below it, whose session the broker
// keeps while it is away.
type broker struct {
	t    testing.TB
	url  string
	host string
	name string

	client *paho.Client

	mu       sync.Mutex
	received []*paho.Publish
}

// newBroker skips the test without a server, and fails it where CI=true.
func newBroker(t testing.TB) *broker {
	t.Helper()
	address := os.Getenv("RIVERGATE_TEST_MQTT_URL")
	if address == "" {
		const how = "RIVERGATE_TEST_MQTT_URL is not set: needs a real Mosquitto; deploy/services run mosquitto -- go test ./plugins/pusher/mqtt"
		if os.Getenv("CI") == "true" {
			t.Fatal(how)
		}
		t.Skip(how)
	}
	u, err := url.Parse(address)
	require.NoError(t, err)
	b := &broker{t: t, url: address, host: u.Host, name: "t-" + strings.ToLower(rand.Text()[:12])}
	b.subscribe()
	t.Cleanup(func() {
		forget := uint32(0)
		require.NoError(t, b.client.Disconnect(&paho.Disconnect{Properties: &paho.DisconnectProperties{SessionExpiryInterval: &forget}}))
	})
	return b
}

// subscribe connects the subscriber, again after the broker was away.
func (b *broker) subscribe() {
	b.t.Helper()
	u, err := url.Parse(b.url)
	require.NoError(b.t, err)
	conn, err := net.Dial("tcp", b.host)
	require.NoError(b.t, err)
	b.client = paho.NewClient(paho.ClientConfig{Conn: conn, OnPublishReceived: []func(paho.PublishReceived) (bool, error){func(p paho.PublishReceived) (bool, error) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.received = append(b.received, p.Packet)
		return true, nil
	}}})
	password, _ := u.User.Password()
	keep := uint32(600)
	_, err = b.client.Connect(b.t.Context(), &paho.Connect{ClientID: b.name, KeepAlive: 30, Username: u.User.Username(), UsernameFlag: true,
		Password: []byte(password), PasswordFlag: true, Properties: &paho.ConnectProperties{SessionExpiryInterval: &keep}})
	require.NoError(b.t, err)
	_, err = b.client.Subscribe(b.t.Context(), &paho.Subscribe{Subscriptions: []paho.SubscribeOptions{{Topic: b.name + "/#", QoS: 1}}})
	require.NoError(b.t, err)
}

// take waits until a message with the given position is there and returns all that came.
func (b *broker) take(until uint64) []*paho.Publish {
	b.t.Helper()
	last := strconv.FormatUint(until, 10)
	var all []*paho.Publish
	require.Eventually(b.t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		all = b.received
		return len(all) > 0 && all[len(all)-1].Properties.User.Get("position") == last
	}, 20*time.Second, 10*time.Millisecond)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.received = nil
	return all
}

func positions(messages []*paho.Publish) []string {
	all := []string{}
	for _, m := range messages {
		all = append(all, m.Properties.User.Get("position"))
	}
	return all
}

func (b *broker) start(config map[string]any) *plugintest.Harness {
	b.t.Helper()
	return plugintest.Start(b.t, plugin, b.config(config))
}

// config fills in what a test does not say.
func (b *broker) config(config map[string]any) map[string]any {
	for name, value := range map[string]any{"url": b.url, "topic": b.name + "/{org}/{uuid}", "client_id": b.name + "-pusher"} {
		if config[name] == nil {
			config[name] = value
		}
	}
	return config
}

// through is the broker's URL by way of another address.
func (b *broker) through(address string) string { return strings.Replace(b.url, b.host, address, 1) }

func TestRowsArriveAsTheyWereSent(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{})
	frame := plugintest.Indexed(plugintest.FrameAt(1<<52, "0123abcd", `{"b": 1.50,"a":1e400}`, `{}`), 7, protocol.NoIndex)
	frame.OrgID, frame.UserID, frame.TraceParent = 42, 9, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	require.Empty(t, h.Deliver(frame))
	got := b.take(1<<52 + 1)
	require.Len(t, got, 2)
	first := got[0]
	require.Equal(t, `{"b": 1.50,"a":1e400}`, string(first.Payload))
	require.Equal(t, b.name+"/42/0123abcd", first.Topic)
	require.Equal(t, byte(1), first.QoS)
	require.False(t, first.Retain)
	require.Equal(t, "application/json", first.Properties.ContentType)
	require.Equal(t, paho.UserProperties{{Key: "org_id", Value: "42"}, {Key: "uuid", Value: "0123abcd"}, {Key: "position", Value: "4503599627370496"},
		{Key: "received_at", Value: "2026-01-02T03:04:05.678Z"}, {Key: "index", Value: "7"}, {Key: "user_id", Value: "9"}, {Key: "request_id", Value: "req-test"},
		{Key: "traceparent", Value: frame.TraceParent}}, first.Properties.User)
	require.Empty(t, got[1].Properties.User.Get("index"))
}

func TestAHostileUUIDStaysOnItsLevel(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{"topic": b.name + "/{uuid}"})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a/b", `{}`), plugintest.FrameAt(2, "+", `{}`), plugintest.FrameAt(3, "#", `{}`), plugintest.FrameAt(4, "$SYS\x00\n", `{}`), plugintest.FrameAt(5, "é%", `{}`)))
	var topics []string
	for _, m := range b.take(5) {
		topics = append(topics, strings.TrimPrefix(m.Topic, b.name))
	}
	require.Equal(t, []string{"/a%2Fb", "/%2B", "/%23", "/%24SYS%00%0A", "/%C3%A9%25"}, topics)
}

func TestManyRowsOfOneUUIDArriveInOrder(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{})
	rows := make([]string, 1000) // far more than the broker's receive maximum
	for i := range rows {
		rows[i] = `{"n":` + strconv.Itoa(i) + `}`
	}
	require.Empty(t, h.DeliverOrdered(plugintest.FrameAt(1, "a", rows...)))
	got := b.take(1000)
	require.Len(t, got, 1000)
	for i, m := range got {
		require.Equal(t, rows[i], string(m.Payload))
	}
}

func TestAMessageThatIsTooLargeRejectsItsRowAlone(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{})
	large := `{"text":"` + strings.Repeat("x", 1<<20) + `"}` // the test's server takes no more than 1 MiB
	outcomes := plugintest.ByPosition(h.Deliver(plugintest.FrameAt(1, "a", `{}`, large, `{}`), plugintest.FrameAt(4, "b", large, `{}`)))
	require.Len(t, outcomes, 2)
	for _, position := range []uint64{2, 4} {
		require.Equal(t, sdk.Rejected, outcomes[position].Class)
		require.Equal(t, "packet_too_large", outcomes[position].Code)
		require.Contains(t, outcomes[position].Message, "0x95")
	}
	// Mosquitto ends the connection: what it has taken just before, but not acknowledged, comes once more.
	require.Equal(t, []string{"1", "3", "5"}, slices.Compact(positions(b.take(5))))
}

func TestATopicThatIsNotAllowedRejectsItsRowsOnceOthersWereTaken(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{"topic": "{uuid}/" + b.name}) // the test's server denies denied/#
	outcomes := h.Deliver(plugintest.FrameAt(1, "denied", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class, "nothing was taken yet: perhaps nothing is allowed")
	outcomes = h.Deliver(plugintest.FrameAt(1, "allowed", `{}`), plugintest.FrameAt(2, "denied", `{}`), plugintest.FrameAt(3, "allowed", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Rejected, outcomes[0].Class)
	require.Equal(t, uint64(2), outcomes[0].Position)
	require.Equal(t, "not_authorized", outcomes[0].Code)
	require.Contains(t, outcomes[0].Message, `"denied/`+b.name+`"`)
}

func TestAFixedTopicThatIsNotAllowedHoldsTheDestination(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{"topic": "denied/all"})
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Unauthenticated, outcomes[0].Class)
	require.Contains(t, outcomes[0].Message, "TOPIC")
}

func TestRowsThatNobodySubscribesToAreKnown(t *testing.T) {
	b := newBroker(t)
	for choice, want := range map[string]sdk.Class{"accept": protocol.Delivered, "retry": sdk.Retry, "reject": sdk.Rejected} {
		h := b.start(map[string]any{"topic": "{uuid}/x", "no_subscriber": choice})
		outcomes := h.Deliver(plugintest.FrameAt(1, b.name, `{}`), plugintest.FrameAt(2, b.name+"-nobody", `{}`))
		require.Equal(t, []string{"1"}, positions(b.take(1)))
		if want == protocol.Delivered {
			require.Empty(t, outcomes)
			continue
		}
		require.Len(t, outcomes, 1)
		require.Equal(t, uint64(2), outcomes[0].Position)
		require.Equal(t, want, outcomes[0].Class)
		require.Equal(t, "no_matching_subscribers", outcomes[0].Code)
	}
}

func TestBehindARowThatComesAgainTheOthersOfItsUUIDComeAgainToo(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{"topic": "{uuid}/x", "no_subscriber": "retry"})
	nobody := b.name + "-nobody"
	outcomes := plugintest.ByPosition(h.DeliverOrdered(plugintest.FrameAt(1, b.name, `{}`), plugintest.FrameAt(2, nobody, `{}`), plugintest.FrameAt(3, nobody, `{}`), plugintest.FrameAt(4, b.name, `{}`)))
	require.Len(t, outcomes, 2)
	require.Equal(t, "no_matching_subscribers", outcomes[2].Code)
	require.Equal(t, "not_sent", outcomes[3].Code)
	require.Equal(t, []string{"1", "4"}, positions(b.take(4)), "the other uuid goes on")
}

func TestWrongCredentialsHoldTheDestination(t *testing.T) {
	b := newBroker(t)
	u, err := url.Parse(b.url)
	require.NoError(t, err)
	u.User = url.UserPassword(u.User.Username(), "wrong-hunter2")
	h := b.start(map[string]any{"url": u.String()})
	for _, text := range []string{h.Deliver(plugintest.FrameAt(1, "a", `{}`))[0].Message, h.Health().Error()} {
		require.Contains(t, text, b.host)
		require.NotContains(t, text, "hunter2")
	}
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`))
	require.Len(t, outcomes, 2)
	require.Equal(t, sdk.Unauthenticated, outcomes[0].Class, outcomes[0].Message)
}

func TestAServerThatIsDownIsNoConfigurationProblem(t *testing.T) {
	h := plugintest.Start(t, plugin, map[string]any{"url": "mqtt://u:hunter2@127.0.0.1:1"})
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`))
	require.Len(t, outcomes, 2)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Contains(t, outcomes[0].Message, "127.0.0.1:1")
	require.NotContains(t, outcomes[0].Message, "hunter2")
	require.Error(t, h.Health())
}

func TestAServerThatIsSlowDelaysAndComesBack(t *testing.T) {
	b := newBroker(t)
	proxy := trouble.NewProxy(t, b.host)
	h := b.start(map[string]any{"url": b.through(proxy.Address), "ack_timeout": "500ms", "connect_timeout": "500ms"})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	proxy.Stall()
	for _, what := range []string{"wait for acknowledgements", "connect"} {
		outcomes := h.Deliver(plugintest.FrameAt(2, "a", `{}`, `{}`))
		require.Len(t, outcomes, 2)
		require.Equal(t, sdk.Retry, outcomes[0].Class)
		require.Equal(t, "timeout", outcomes[0].Code)
		require.Contains(t, outcomes[0].Message, what)
	}
	proxy.Resume()
	require.Empty(t, h.Deliver(plugintest.FrameAt(4, "a", `{}`)))
	require.Equal(t, []string{"1", "2", "3", "4"}, positions(b.take(4)), "the broker had those that it did not acknowledge in time")
}

func TestTLSIsSpokenAndTheServerIsVerified(t *testing.T) {
	b := newBroker(t)
	proxy, caFile := trouble.NewTLSProxy(t, b.host)
	address := strings.Replace(b.through(proxy.Address), "mqtt://", "mqtts://", 1)
	h := b.start(map[string]any{"url": address, "ca_file": caFile})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	require.Equal(t, []string{"1"}, positions(b.take(1)))
	outcomes := b.start(map[string]any{"url": address}).Deliver(plugintest.FrameAt(2, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Contains(t, outcomes[0].Message, "certificate")
}

func TestAConnectionThatEndsIsReplaced(t *testing.T) {
	b := newBroker(t)
	proxy := trouble.NewProxy(t, b.host)
	h := b.start(map[string]any{"url": b.through(proxy.Address)})
	want := []string{}
	for position := uint64(1); position < 20; position++ {
		outcomes := h.Deliver(plugintest.FrameAt(position, "a", `{}`))
		if len(outcomes) > 0 { // noticed only now
			require.Equal(t, sdk.Retry, outcomes[0].Class)
			require.Empty(t, h.Deliver(plugintest.FrameAt(position, "a", `{}`)))
		}
		if position%5 == 0 {
			proxy.Cut()
		}
		want = append(want, strconv.FormatUint(position, 10))
	}
	require.Subset(t, positions(b.take(19)), want)
	require.NoError(t, h.Health())
}

// An upgrade: the new process is asked for its health while the old one delivers.
func TestAHealthCheckTakesNoConnectionAway(t *testing.T) {
	b := newBroker(t)
	before, after := b.start(map[string]any{}), b.start(map[string]any{})
	require.Empty(t, before.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	require.NoError(t, after.Health())
	require.Empty(t, before.Deliver(plugintest.FrameAt(2, "a", `{}`)))
	require.Empty(t, after.Deliver(plugintest.FrameAt(3, "a", `{}`)))
	require.Equal(t, []string{"1", "2", "3"}, positions(b.take(3)))
	outcomes := before.Deliver(plugintest.FrameAt(4, "a", `{}`))
	if len(outcomes) > 0 { // the old one may notice only now
		require.Equal(t, sdk.Retry, outcomes[0].Class)
	}
}

func TestRowsSurviveARestartOfTheServer(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`, `{}`)))
	require.Equal(t, []string{"1", "2", "3"}, positions(b.take(3)))
	trouble.Service(t, "kill", "mosquitto")
	outcomes := h.Deliver(plugintest.FrameAt(4, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	trouble.Service(t, "revive", "mosquitto")
	b.subscribe()
	require.Eventually(t, func() bool { return len(h.Deliver(plugintest.FrameAt(4, "a", `{}`))) == 0 }, time.Minute, 100*time.Millisecond)
	require.Contains(t, positions(b.take(4)), "4")
}

// farewell stands before the broker and, when a message holds the word, ends the connection with a reason code, as brokers do that do
// not put it into the acknowledgement.
func farewell(t *testing.T, server, word string, reason byte) (address string) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				continue
			}
			var writing sync.Mutex // towards the client
			running.Go(func() {
				defer client.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := upstream.Read(buf)
					writing.Lock()
					_, werr := client.Write(buf[:n])
					writing.Unlock()
					if err != nil || werr != nil {
						return
					}
				}
			})
			running.Go(func() {
				defer upstream.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := client.Read(buf)
					if strings.Contains(string(buf[:n]), word) {
						writing.Lock()
						_, _ = client.Write([]byte{0xE0, 2, reason, 0}) // DISCONNECT; the client may be gone
						writing.Unlock()
						return
					}
					if _, werr := upstream.Write(buf[:n]); err != nil || werr != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() {
		require.NoError(t, listener.Close())
		running.Wait()
	})
	return listener.Addr().String()
}

func TestARowThatEndsTheConnectionIsFoundAndRejected(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{"url": b.through(farewell(t, b.host, "guilty", packetTooLarge))})
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{"x":"guilty"}`, `{}`), plugintest.FrameAt(4, "b", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Rejected, outcomes[0].Class)
	require.Equal(t, 1, outcomes[0].Row)
	require.Equal(t, "packet_too_large", outcomes[0].Code)
	require.Subset(t, positions(b.take(4)), []string{"1", "3", "4"})
	h.Drain()
}

func TestABrokerThatShutsDownRejectsNothing(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{"url": b.through(farewell(t, b.host, "now", 0x8B))})
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{"x":"now"}`))
	require.NotEmpty(t, outcomes)
	for _, o := range outcomes {
		require.Equal(t, sdk.Retry, o.Class)
		require.Equal(t, "server_shutting_down", o.Code)
	}
	h.Drain()
}

func TestBadSettingsAreNamed(t *testing.T) {
	const address = "mqtt://u@127.0.0.1:1"
	for field, configs := range map[string][]map[string]any{
		"url":       {{"url": "http://u:hunter2@h"}, {"url": "mqtt://u:hunter2@h:port"}, {"url": "mqtt://u:hunter2@h/topic"}},
		"topic":     {{"url": address, "topic": "a/+/b"}, {"url": address, "topic": "a/#"}, {"url": address, "topic": "$SYS/x"}, {"url": address, "topic": "{uid}"}, {"url": address, "topic": "a\nb"}},
		"client_id": {{"url": address, "client_id": "a\x00"}},
		"ca_file":   {{"url": address, "ca_file": "/nowhere"}},
	} {
		for _, config := range configs {
			problems := plugintest.Connect(t, plugin).Configure(config)
			require.Len(t, problems, 1, "%v", config)
			require.Equal(t, field, problems[0].Field)
			require.NotContains(t, problems[0].Reason, "hunter2")
		}
	}
}

// A process is killed while batches are on their way, again and again. Nothing is lost; what was published and not acknowledged is there
// twice, which the README gives as a figure.
func TestRowsSurviveKillNine(t *testing.T) {
	b := newBroker(t)
	batches, last := trouble.Batches(200)
	toll := trouble.KillNines(t, plugintest.Build(t, "."), b.config(map[string]any{}), batches, 10)
	require.Zero(t, toll.Known+toll.Again)
	all := b.take(last)
	lastCopy := map[string]int{}
	for i, m := range all {
		lastCopy[m.Properties.User.Get("position")] = i
	}
	require.Len(t, lastCopy, int(last), "no row is lost")
	order := map[string][]int{} // positions of each uuid, in the order of their last copies
	for i, m := range all {
		if position := m.Properties.User.Get("position"); lastCopy[position] == i {
			n, err := strconv.Atoi(position)
			require.NoError(t, err)
			uuid := m.Properties.User.Get("uuid")
			order[uuid] = append(order[uuid], n)
		}
	}
	for uuid, positions := range order {
		require.IsIncreasing(t, positions, uuid)
	}
	twice := len(all) - int(last)
	t.Logf("%d rows, %d toll.Killed: %d delivered twice, %.1f for each kill", last, toll.Killed, twice, float64(twice)/float64(toll.Killed))
	require.LessOrEqual(t, twice, toll.Killed*8*20, "no more than what was in flight at each kill")
}

func TestEveryReasonHasItsClass(t *testing.T) {
	for reason, want := range map[byte]sdk.Class{0x80: sdk.Retry, 0x83: sdk.Retry, topicNameInvalid: sdk.Rejected, 0x91: sdk.Retry, packetTooLarge: sdk.Rejected,
		quotaExceeded: sdk.Throttled, payloadFormatInvalid: sdk.Rejected, 0xFE: sdk.Retry} {
		m := &MQTT{address: "broker:1883"}
		var typed *sdk.Error
		require.ErrorAs(t, m.outcome(&packets.Puback{ReasonCode: reason}, "t"), &typed)
		require.Equal(t, want, typed.Class, "0x%02X", reason)
	}
	for reason, want := range map[byte]sdk.Class{badUserNameOrPassword: sdk.Unauthenticated, banned: sdk.Unauthenticated, serverBusy: sdk.Throttled,
		unsupportedProtocolVersion: sdk.Retry, sessionTakenOver: sdk.Retry, clientIDNotValid: sdk.Retry, 0x8D: sdk.Retry} {
		m := &MQTT{address: "broker:1883"}
		var typed *sdk.Error
		require.ErrorAs(t, m.failure(&errRefused{"connect", reason, name(reason)}), &typed)
		require.Equal(t, want, typed.Class, "0x%02X", reason)
	}
	var typed *sdk.Error
	require.ErrorAs(t, (&MQTT{}).failure(context.DeadlineExceeded), &typed)
	require.Equal(t, "timeout", typed.Code)
}
