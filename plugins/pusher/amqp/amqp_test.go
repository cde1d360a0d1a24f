package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	amqp "github.com/rabbitmq/amqp091-go"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/plugins/internal/trouble"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// broker is a connection of the test's own to a real RabbitMQ, with a name for its queues and exchanges.
type broker struct {
	*amqp.Channel
	conn *amqp.Connection
	t    testing.TB
	url  string
	name string
}

// needs is a variable that deploy/services sets.
func needs(t testing.TB, variable string) string {
	t.Helper()
	value := os.Getenv(variable)
	if value == "" {
		how := variable + " is not set: needs a real RabbitMQ; deploy/services run rabbitmq -- go test ./plugins/pusher/amqp"
		if os.Getenv("CI") == "true" {
			t.Fatal(how)
		}
		t.Skip(how)
	}
	return value
}

// newBroker skips the test without a server, and fails it where CI=true.
func newBroker(t testing.TB) *broker {
	t.Helper()
	b := &broker{t: t, url: needs(t, "RIVERGATE_TEST_AMQP_URL"), name: "t-" + strings.ToLower(rand.Text()[:12])}
	b.open()
	t.Cleanup(b.close)
	return b
}

// open connects, again after the broker was away.
func (b *broker) open() {
	b.t.Helper()
	var err error
	b.conn, err = amqp.Dial(b.url)
	require.NoError(b.t, err)
	b.Channel, err = b.conn.Channel()
	require.NoError(b.t, err)
}

func (b *broker) close() {
	_, err := b.QueueDelete(b.name, false, false, false)
	require.NoError(b.t, err)
	require.NoError(b.t, b.ExchangeDelete(b.name, false, false))
	require.NoError(b.t, b.conn.Close())
}

// queue declares the queue of the test.
func (b *broker) queue(arguments amqp.Table) string {
	b.t.Helper()
	_, err := b.QueueDeclare(b.name, true, false, false, false, arguments)
	require.NoError(b.t, err)
	return b.name
}

// take empties the queue.
func (b *broker) take() []amqp.Delivery {
	b.t.Helper()
	var all []amqp.Delivery
	for {
		d, ok, err := b.Get(b.name, true)
		require.NoError(b.t, err)
		if !ok {
			return all
		}
		all = append(all, d)
	}
}

// positions are the message ids in the queue, in its order.
func (b *broker) positions() []string {
	b.t.Helper()
	ids := []string{}
	for _, d := range b.take() {
		ids = append(ids, d.MessageId)
	}
	return ids
}

func (b *broker) start(config map[string]any) *plugintest.Harness {
	b.t.Helper()
	if config["url"] == nil {
		config["url"] = b.url
	}
	return plugintest.Start(b.t, plugin, config)
}

// through is the broker's URL by way of another address.
func (b *broker) through(address string) string {
	u, err := url.Parse(b.url)
	require.NoError(b.t, err)
	u.Host = address
	return u.String()
}

func (b *broker) host() string {
	u, err := url.Parse(b.url)
	require.NoError(b.t, err)
	return u.Host
}

func TestRowsArriveAsTheyWereSent(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{"queue": b.name})
	frame := plugintest.Indexed(plugintest.FrameAt(1<<52, "a.b*#/é", `{"b": 1.50,"a":1e400}`, `{}`), 7, protocol.NoIndex)
	frame.OrgID, frame.UserID, frame.TraceParent = 42, 9, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	require.Empty(t, h.Deliver(frame))
	got := b.take()
	require.Len(t, got, 2)
	first := got[0]
	require.Equal(t, `{"b": 1.50,"a":1e400}`, string(first.Body))
	require.Equal(t, strconv.FormatUint(1<<52, 10), first.MessageId)
	require.Equal(t, strconv.FormatUint(1<<52+1, 10), got[1].MessageId)
	require.Equal(t, amqp.Persistent, first.DeliveryMode)
	require.Equal(t, "application/json", first.ContentType)
	require.Equal(t, amqp.Table{"org_id": int64(42), "uuid": "a.b*#/é", "position": int64(1 << 52), "index": int32(7), "user_id": int64(9),
		"received_at": "2026-01-02T03:04:05.678Z", "request_id": "req-test", "traceparent": frame.TraceParent}, first.Headers)
	require.NotContains(t, got[1].Headers, "index")
}

func TestRoutingKeysAreMadeOfTheRowAndHostileUUIDsStayOneWord(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{"exchange": b.name, "exchange_type": "topic", "queue": b.name, "routing_key": "rows.{org}.{uuid}", "binding_key": "rows.*.*"})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "0123abcd", `{}`), plugintest.FrameAt(2, "a.b.#.*", `{}`), plugintest.FrameAt(3, "%2E", `{}`), plugintest.FrameAt(4, "é\x00", `{}`)))
	var keys []string
	for _, d := range b.take() {
		keys = append(keys, d.RoutingKey)
	}
	require.Equal(t, []string{"rows.1.0123abcd", "rows.1.a%2Eb%2E%23%2E%2A", "rows.1.%252E", "rows.1.%C3%A9%00"}, keys)
}

func TestARoutingKeyThatIsTooLongRejectsItsRowAlone(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{"exchange": b.name, "exchange_type": "topic", "queue": b.name, "routing_key": "{uuid}"})
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`), plugintest.FrameAt(2, strings.Repeat(".", 128), `{}`), plugintest.FrameAt(3, "b", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Rejected, outcomes[0].Class)
	require.Equal(t, uint64(2), outcomes[0].Position)
	require.Equal(t, []string{"1", "3"}, b.positions())
}

func TestAMessageThatIsTooLargeRejectsItsRowAlone(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{"queue": b.name})
	large := `{"text":"` + strings.Repeat("x", 1<<20) + `"}` // the test's server takes no more than 1 MiB
	outcomes := plugintest.ByPosition(h.Deliver(plugintest.FrameAt(1, "a", `{}`, large, `{}`), plugintest.FrameAt(4, "b", `{}`, large)))
	require.Len(t, outcomes, 2)
	for _, position := range []uint64{2, 5} {
		require.Equal(t, sdk.Rejected, outcomes[position].Class)
		require.Equal(t, "precondition_failed", outcomes[position].Code)
		require.Contains(t, outcomes[position].Message, "larger than")
	}
	there := map[string]bool{}
	for _, id := range b.positions() { // those before a refused one may be there twice
		there[id] = true
	}
	require.Equal(t, map[string]bool{"1": true, "3": true, "4": true}, there)
	require.Empty(t, h.Deliver(plugintest.FrameAt(6, "a", `{}`)), "the channel is there again")
}

func TestUnroutableRowsAreKnown(t *testing.T) {
	b := newBroker(t)
	require.NoError(t, b.ExchangeDeclare(b.name, "topic", true, false, false, false, nil))
	b.queue(nil)
	require.NoError(t, b.QueueBind(b.name, "known", b.name, false, nil))
	for unroutable, want := range map[string]sdk.Class{"retry": sdk.Retry, "reject": sdk.Rejected, "accept": protocol.Delivered} {
		h := b.start(map[string]any{"exchange": b.name, "routing_key": "{uuid}", "unroutable": unroutable})
		outcomes := h.Deliver(plugintest.FrameAt(1, "known", `{}`), plugintest.FrameAt(2, "unknown", `{}`), plugintest.FrameAt(3, "known", `{}`))
		require.Equal(t, []string{"1", "3"}, b.positions())
		if want == protocol.Delivered {
			require.Empty(t, outcomes)
			continue
		}
		require.Len(t, outcomes, 1)
		require.Equal(t, uint64(2), outcomes[0].Position)
		require.Equal(t, want, outcomes[0].Class)
		require.Equal(t, "no_route", outcomes[0].Code)
		require.Contains(t, outcomes[0].Message, `routing key "unknown"`)
		require.Contains(t, outcomes[0].Message, "QUEUE")
	}
}

func TestAFullQueueHoldsWhatItRefusesAndLosesNothing(t *testing.T) {
	b := newBroker(t)
	queue := b.queue(amqp.Table{amqp.QueueMaxLenArg: 3, amqp.QueueOverflowArg: "reject-publish"})
	h := b.start(map[string]any{"routing_key": queue})
	outcomes := plugintest.ByPosition(h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`, `{}`, `{}`, `{}`)))
	require.NotEmpty(t, outcomes)
	for _, o := range outcomes {
		require.Equal(t, sdk.Throttled, o.Class)
		require.Contains(t, o.Message, "full")
	}
	got := b.positions()
	require.Len(t, got, 5-len(outcomes), "what was not refused is there, and nothing else")
	require.NotContains(t, outcomes, uint64(1))
	var again []protocol.Frame
	for position := range outcomes {
		again = append(again, plugintest.FrameAt(position, "a", `{}`))
	}
	require.Empty(t, h.Deliver(again...))
	require.Len(t, b.take(), len(again))
}

func TestBehindARowThatComesAgainTheOthersOfItsUUIDComeAgainToo(t *testing.T) {
	b := newBroker(t)
	require.NoError(t, b.ExchangeDeclare(b.name, "topic", true, false, false, false, nil))
	b.queue(nil)
	require.NoError(t, b.QueueBind(b.name, "u1", b.name, false, nil))
	h := b.start(map[string]any{"exchange": b.name, "routing_key": "{uuid}"})
	stream := []protocol.Frame{plugintest.FrameAt(1, "u1", `{}`), plugintest.FrameAt(2, "u2", `{}`), plugintest.FrameAt(3, "u2", `{}`), plugintest.FrameAt(4, "u1", `{}`)}
	outcomes := plugintest.ByPosition(h.DeliverOrdered(stream...))
	require.Len(t, outcomes, 2)
	require.Equal(t, "no_route", outcomes[2].Code)
	require.Equal(t, sdk.Retry, outcomes[3].Class)
	require.Equal(t, []string{"1", "4"}, b.positions(), "the other uuid goes on")
}

func TestWrongCredentialsHoldTheDestination(t *testing.T) {
	b := newBroker(t)
	u, err := url.Parse(b.url)
	require.NoError(t, err)
	u.User = url.UserPassword(u.User.Username(), "wrong-hunter2")
	h := b.start(map[string]any{"url": u.String(), "queue": b.name})
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`))
	require.Len(t, outcomes, 2)
	require.Equal(t, sdk.Unauthenticated, outcomes[0].Class, outcomes[0].Message)
	require.Contains(t, outcomes[0].Message, u.Host)
	require.NotContains(t, outcomes[0].Message, "hunter2")
	health := h.Health()
	require.Error(t, health)
	require.NotContains(t, health.Error(), "hunter2")
}

// limited is the URL of a user who may write to exchanges that are called may-…, and to may-topic under keys that begin with
// "free." alone.
func limited(t *testing.T, b *broker) string {
	t.Helper()
	at := needs(t, "RIVERGATE_TEST_AMQP_LIMITED_URL")
	require.NoError(t, b.ExchangeDeclare("may-topic", "topic", true, false, false, false, nil))
	t.Cleanup(func() { require.NoError(t, b.ExchangeDelete("may-topic", false, false)) })
	b.queue(nil)
	require.NoError(t, b.QueueBind(b.name, "#", "may-topic", false, nil))
	return at
}

func TestAMissingPermissionForTheExchangeHoldsTheDestination(t *testing.T) {
	b := newBroker(t)
	at := limited(t, b)
	require.NoError(t, b.ExchangeDeclare(b.name, "fanout", true, false, false, false, nil))
	require.NoError(t, b.QueueBind(b.name, "", b.name, false, nil))
	h := b.start(map[string]any{"url": at, "exchange": b.name, "routing_key": "{uuid}"})
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`))
	require.Len(t, outcomes, 2)
	for _, o := range outcomes {
		require.Equal(t, sdk.Unauthenticated, o.Class, o.Message)
		require.Equal(t, "access_refused", o.Code)
		require.Contains(t, o.Message, b.name)
		require.Contains(t, o.Message, "set_permissions: write on EXCHANGE")
	}
	require.Empty(t, b.positions())
}

func TestAMissingTopicPermissionRejectsItsRowAloneOnceTheSetUpIsKnownToBeRight(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{"url": limited(t, b), "exchange": "may-topic", "routing_key": "{uuid}.rows"})
	outcomes := h.Deliver(plugintest.FrameAt(1, "closed", `{}`, `{}`))
	require.Len(t, outcomes, 2)
	for _, o := range outcomes {
		require.Equal(t, sdk.Retry, o.Class, "nothing was taken yet: it may be the set-up (%s)", o.Message)
	}
	require.Empty(t, h.Deliver(plugintest.FrameAt(3, "free", `{}`)))
	found := plugintest.ByPosition(h.Deliver(plugintest.FrameAt(4, "free", `{}`), plugintest.FrameAt(5, "closed", `{}`), plugintest.FrameAt(6, "free", `{}`)))
	require.Len(t, found, 1)
	require.Equal(t, sdk.Rejected, found[5].Class, found[5].Message)
	require.Equal(t, "access_refused", found[5].Code)
	require.Contains(t, found[5].Message, "may-topic")
	ids := b.positions()
	slices.Sort(ids)
	require.Equal(t, []string{"3", "4", "6"}, slices.Compact(ids), "the broker may have taken row 4 before it closed the channel, and again")
}

func TestAVhostThatIsMissingIsNamed(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{"url": strings.TrimSuffix(b.url, "/") + "/nowhere", "queue": b.name})
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Contains(t, outcomes[0].Message, "nowhere")
	require.Contains(t, outcomes[0].Message, "vhost in URL")
}

func TestAnExchangeThatIsMissingIsSaidBeforeRowsCome(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{"exchange": b.name, "routing_key": "x"})
	require.ErrorContains(t, h.Health(), "EXCHANGE "+b.name)
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Equal(t, "not_found", outcomes[0].Code)
	require.NoError(t, b.ExchangeDeclare(b.name, "fanout", true, false, false, false, nil))
	b.queue(nil)
	require.NoError(t, b.QueueBind(b.name, "", b.name, false, nil))
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	require.NoError(t, h.Health())
	require.Equal(t, []string{"1"}, b.positions())
}

func TestAQueueOfAnotherKindIsSaid(t *testing.T) {
	b := newBroker(t)
	queue := b.queue(amqp.Table{amqp.QueueMaxLenArg: 3})
	h := b.start(map[string]any{"queue": queue, "queue_type": "quorum"})
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Equal(t, "precondition_failed", outcomes[0].Code)
	require.Contains(t, outcomes[0].Message, "QUEUE_TYPE")
}

func TestAQuorumQueueTakesRows(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{"queue": b.name, "queue_type": "quorum"})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`)))
	require.Equal(t, []string{"1", "2"}, b.positions())
}

func TestAServerThatIsDownIsNoConfigurationProblem(t *testing.T) {
	h := plugintest.Start(t, plugin, map[string]any{"url": "amqp://u:hunter2@127.0.0.1:1/", "queue": "q"})
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`))
	require.Len(t, outcomes, 2)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Contains(t, outcomes[0].Message, "127.0.0.1:1")
	require.NotContains(t, outcomes[0].Message, "hunter2")
	require.Error(t, h.Health())
}

func TestAServerThatIsSlowDelaysAndComesBack(t *testing.T) {
	b := newBroker(t)
	proxy := trouble.NewProxy(t, b.host())
	h := b.start(map[string]any{"url": b.through(proxy.Address), "queue": b.name, "confirm_timeout": "500ms", "connect_timeout": "500ms"})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	proxy.Stall()
	for _, what := range []string{"wait for confirms", "connect"} {
		outcomes := h.Deliver(plugintest.FrameAt(2, "a", `{}`, `{}`))
		require.Len(t, outcomes, 2)
		require.Equal(t, sdk.Retry, outcomes[0].Class)
		require.Equal(t, "timeout", outcomes[0].Code)
		require.Contains(t, outcomes[0].Message, what)
	}
	proxy.Resume()
	require.Empty(t, h.Deliver(plugintest.FrameAt(2, "a", `{}`, `{}`)))
	require.Equal(t, []string{"1", "2", "3", "2", "3"}, b.positions(), "the broker had them already")
}

func TestTLSIsSpokenAndTheServerIsVerified(t *testing.T) {
	b := newBroker(t)
	proxy, caFile := trouble.NewTLSProxy(t, b.host())
	address := strings.Replace(b.through(proxy.Address), "amqp://", "amqps://", 1)
	h := b.start(map[string]any{"url": address, "queue": b.name, "ca_file": caFile})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	require.Equal(t, []string{"1"}, b.positions())
	outcomes := b.start(map[string]any{"url": address, "queue": b.name}).Deliver(plugintest.FrameAt(2, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Contains(t, outcomes[0].Message, "certificate")
}

func TestAConnectionThatEndsIsReplaced(t *testing.T) {
	b := newBroker(t)
	proxy := trouble.NewProxy(t, b.host())
	h := b.start(map[string]any{"url": b.through(proxy.Address), "queue": b.name})
	for position := uint64(1); position < 20; position++ {
		outcomes := h.Deliver(plugintest.FrameAt(position, "a", `{}`))
		if len(outcomes) > 0 { // noticed only now
			require.Equal(t, sdk.Retry, outcomes[0].Class)
			require.Empty(t, h.Deliver(plugintest.FrameAt(position, "a", `{}`)))
		}
		if position%5 == 0 {
			proxy.Cut()
		}
	}
	require.Subset(t, b.positions(), numbers(1, 19))
}

func numbers(from, to uint64) []string {
	var all []string
	for n := from; n <= to; n++ {
		all = append(all, strconv.FormatUint(n, 10))
	}
	return all
}

func TestRowsSurviveARestartOfTheServer(t *testing.T) {
	b := newBroker(t)
	b.queue(nil)
	// A broker that is killed soon after it declared a queue may have forgotten it; one that ended well has not (README).
	trouble.Service(t, "kill", "rabbitmq", "--signal", "TERM")
	trouble.Service(t, "revive", "rabbitmq")
	b.open()
	h := b.start(map[string]any{"queue": b.name})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`, `{}`)))
	trouble.Service(t, "kill", "rabbitmq")
	outcomes := h.Deliver(plugintest.FrameAt(4, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	trouble.Service(t, "revive", "rabbitmq")
	require.Eventually(t, func() bool { return len(h.Deliver(plugintest.FrameAt(4, "a", `{}`))) == 0 }, time.Minute, 200*time.Millisecond)
	b.open()
	require.Subset(t, b.positions(), numbers(1, 4), "what was confirmed before the kill is there")
}

func TestBadSettingsAreNamed(t *testing.T) {
	const address = "amqp://u@127.0.0.1:1/"
	long := strings.Repeat("x", 256)
	for field, configs := range map[string][]map[string]any{
		"url":         {{"url": "http://u:hunter2@h", "queue": "q"}, {"url": "amqp://u:hun ter2@h", "queue": "q"}, {"url": "amqp://u:hunter2@h:port", "queue": "q"}},
		"queue":       {{"url": address}, {"url": address, "queue": "amq.x"}, {"url": address, "queue": long}},
		"exchange":    {{"url": address, "exchange": long, "routing_key": "x"}, {"url": address, "exchange_type": "topic", "routing_key": "x"}},
		"routing_key": {{"url": address, "routing_key": "{uid}"}, {"url": address, "routing_key": "a{"}, {"url": address, "routing_key": long}},
		"ca_file":     {{"url": address, "queue": "q", "ca_file": "/nowhere"}},
		"key_file":    {{"url": address, "queue": "q", "cert_file": "/nowhere"}},
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
	toll := trouble.KillNines(t, plugintest.Build(t, "."), map[string]any{"url": b.url, "queue": b.name}, batches, 10)
	require.Zero(t, toll.Known+toll.Again)
	seen := map[string]int{}
	order := map[string][]int{} // positions of each uuid, in the order of the last copies
	all := b.take()
	for i, d := range all {
		seen[d.MessageId] = i
	}
	require.Len(t, seen, int(last), "no row is lost")
	for i, d := range all {
		if seen[d.MessageId] == i {
			n, err := strconv.Atoi(d.MessageId)
			require.NoError(t, err)
			uuid := fmt.Sprint(d.Headers["uuid"])
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

func TestAnAlarmOfTheBrokerIsNoFailureOfTheRows(t *testing.T) {
	a := &AMQP{log: hclog.NewNullLogger(), address: "rabbit:5672"}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := a.failure((&session{blocked: "low on memory"}).lostBecause(ctx))
	var typed *sdk.Error
	require.ErrorAs(t, err, &typed)
	require.Equal(t, sdk.Throttled, typed.Class)
	require.ErrorContains(t, err, "low on memory")
}
