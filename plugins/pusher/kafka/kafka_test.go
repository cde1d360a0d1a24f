package main

import (
	"crypto/rand"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rivergate/rivergate/plugins/internal/trouble"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/rcrowley/go-metrics.(*meterArbiter).tick")) // sarama's, one for the process
}

// broker is a client of the test's own to a real Kafka, and a topic of one partition.
type broker struct {
	sarama.Client
	t       testing.TB
	address string
	topic   string
}

// variable skips the test without a server, and fails it where CI=true.
func variable(t testing.TB, name string) string {
	t.Helper()
	value := os.Getenv(name)
	if value == "" {
		const how = "%s is not set: needs a real Kafka; deploy/services run kafka -- go test ./plugins/pusher/kafka"
		if os.Getenv("CI") == "true" {
			t.Fatalf(how, name)
		}
		t.Skipf(how, name)
	}
	return value
}

func newBroker(t testing.TB) *broker {
	t.Helper()
	b := &broker{t: t, address: variable(t, "RIVERGATE_TEST_KAFKA_BROKERS"), topic: "t-" + strings.ToLower(rand.Text()[:12])}
	b.open()
	b.create(nil)
	return b
}

func (b *broker) open() {
	b.t.Helper()
	c := sarama.NewConfig()
	c.Version = sarama.V2_4_0_0
	c.Consumer.Fetch.Max = 0
	c.Consumer.MaxWaitTime = 10 * time.Millisecond
	var err error
	b.Client, err = sarama.NewClient([]string{b.address}, c)
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = b.Client.Close() }) // a test may have closed it
}

// create makes the topic, or one of that name with other settings.
func (b *broker) create(settings map[string]*string) {
	b.t.Helper()
	admin, err := sarama.NewClusterAdminFromClient(b.Client) // shares the client, so it is not closed
	require.NoError(b.t, err)
	require.NoError(b.t, admin.CreateTopic(b.topic, &sarama.TopicDetail{NumPartitions: 1, ReplicationFactor: 1, ConfigEntries: settings}, false))
}

// take reads the topic from its beginning to its end.
func (b *broker) take() (all []*sarama.ConsumerMessage) {
	b.t.Helper()
	require.NoError(b.t, b.RefreshMetadata(b.topic))
	consumer, err := sarama.NewConsumerFromClient(b.Client)
	require.NoError(b.t, err)
	partitions, err := b.Partitions(b.topic)
	require.NoError(b.t, err)
	for _, partition := range partitions {
		end, err := b.GetOffset(b.topic, partition, sarama.OffsetNewest)
		require.NoError(b.t, err)
		if end == 0 {
			continue
		}
		p, err := consumer.ConsumePartition(b.topic, partition, sarama.OffsetOldest)
		require.NoError(b.t, err)
		for next := int64(0); next < end; {
			select {
			case m := <-p.Messages():
				all = append(all, m)
				next = m.Offset + 1
			case <-time.After(plugintest.Timeout):
				b.t.Fatal("the broker does not hand out what it has")
			}
		}
		require.NoError(b.t, p.Close())
	}
	return all
}

func header(m *sarama.ConsumerMessage, name string) string {
	for _, h := range m.Headers {
		if string(h.Key) == name {
			return string(h.Value)
		}
	}
	return ""
}

func positions(all []*sarama.ConsumerMessage) []string {
	ids := []string{}
	for _, m := range all {
		ids = append(ids, header(m, "position"))
	}
	return ids
}

func (b *broker) start(config map[string]any) *plugintest.Harness {
	b.t.Helper()
	for name, value := range map[string]any{"brokers": []string{b.address}, "topic": b.topic} {
		if config[name] == nil {
			config[name] = value
		}
	}
	return plugintest.Start(b.t, plugin, config)
}

func TestRowsArriveAsTheyWereSent(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{})
	frame := plugintest.Indexed(plugintest.FrameAt(1<<52, "a.b*#/é", `{"b": 1.50,"a":1e400}`, `{}`), 7, protocol.NoIndex)
	frame.OrgID, frame.UserID, frame.TraceParent = 42, 9, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	require.Empty(t, h.Deliver(frame))
	got := b.take()
	require.Len(t, got, 2)
	require.Equal(t, "a.b*#/é", string(got[0].Key))
	require.Equal(t, `{"b": 1.50,"a":1e400}`, string(got[0].Value))
	headers := map[string]string{}
	for _, h := range got[0].Headers {
		headers[string(h.Key)] = string(h.Value)
	}
	require.Equal(t, map[string]string{"position": strconv.FormatUint(1<<52, 10), "org_id": "42", "index": "7", "user_id": "9",
		"received_at": "2026-01-02T03:04:05.678Z", "request_id": "req-test", "traceparent": frame.TraceParent}, headers)
	require.WithinDuration(t, time.Now(), got[0].Timestamp, time.Minute, "retention counts from when the row came to the topic")
	require.Empty(t, header(got[1], "index"))
}

func TestRowsOfAUUIDStayInOrderOverManyBatches(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{"compression": "zstd"})
	batches, last := trouble.Batches(100)
	for _, batch := range batches {
		require.Empty(t, h.Deliver(batch.Frames...))
	}
	got := b.take()
	require.Len(t, got, int(last))
	before := map[string]int{}
	for _, m := range got {
		position, err := strconv.Atoi(header(m, "position"))
		require.NoError(t, err)
		require.Less(t, before[string(m.Key)], position)
		before[string(m.Key)] = position
	}
}

func TestARowThatIsTooLargeForTheTopicIsRejectedAlone(t *testing.T) {
	b := newBroker(t)
	b.topic += "-small"
	limit := "20000"
	b.create(map[string]*string{"max.message.bytes": &limit})
	h := b.start(map[string]any{})
	large := `{"text":"` + strings.Repeat("x", 30000) + `"}`
	medium := `{"text":"` + strings.Repeat("x", 8000) + `"}` // several of them are too much for one request
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", medium, large, medium), plugintest.FrameAt(4, "b", medium, large, medium))
	require.Len(t, outcomes, 2)
	for i, position := range []uint64{1, 4} {
		require.Equal(t, sdk.Rejected, outcomes[i].Class, outcomes[i])
		require.Equal(t, "too_large", outcomes[i].Code)
		require.Equal(t, position, outcomes[i].Position)
		require.Equal(t, 1, outcomes[i].Row)
	}
	require.Equal(t, []string{"1", "3", "4", "6"}, positions(b.take()))
}

// A limit that is lowered while the producer runs is as unknown to it as one that it may not ask for.
func TestRowsThatAreRefusedTogetherStayInOrder(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{})
	require.Empty(t, h.DeliverOrdered(plugintest.FrameAt(1, "a", `{}`)))
	admin, err := sarama.NewClusterAdminFromClient(b.Client)
	require.NoError(t, err)
	limit := "20000"
	require.NoError(t, admin.AlterConfig(sarama.TopicResource, b.topic, map[string]*string{"max.message.bytes": &limit}, false))
	large := `{"text":"` + strings.Repeat("x", 30000) + `"}`
	position := uint64(2)
	require.Eventually(t, func() bool { // until the broker keeps to it
		position++
		return len(h.DeliverOrdered(plugintest.FrameAt(position, "b", large))) == 1
	}, plugintest.Timeout, 10*time.Millisecond)
	medium := `{"text":"` + strings.Repeat("x", 8000) + `"}`
	begin := position + 1
	var frames []protocol.Frame
	for i := range uint64(30) {
		row := medium
		if i == 10 {
			row = large
		}
		frames = append(frames, plugintest.FrameAt(begin+i, "a", row))
	}
	outcomes := h.DeliverOrdered(frames...)
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Rejected, outcomes[0].Class, outcomes[0])
	require.Equal(t, begin+10, outcomes[0].Position)
	want := []string{}
	for i := range uint64(30) {
		if i != 10 {
			want = append(want, strconv.FormatUint(begin+i, 10))
		}
	}
	got := positions(b.take())
	require.Equal(t, want, got[slices.Index(got, want[0]):], "once, and in order")
}

func TestATopicThatIsMissingHoldsTheRowsUntilItIsThere(t *testing.T) {
	b := newBroker(t)
	b.topic += "-later"
	h := b.start(map[string]any{})
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`))
	require.Len(t, outcomes, 2)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Equal(t, "topic", outcomes[0].Code)
	require.Contains(t, outcomes[0].Message, "CREATE_TOPIC")
	require.Contains(t, outcomes[0].Message, b.address)
	require.Error(t, h.Health())
	b.create(nil)
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`)))
	require.NoError(t, h.Health())
	require.Equal(t, []string{"1", "2"}, positions(b.take()))
}

func TestTheTopicIsCreatedOnRequest(t *testing.T) {
	b := newBroker(t)
	b.topic += "-made"
	h := b.start(map[string]any{"create_topic": true, "partitions": 3, "replication": 1})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`), plugintest.FrameAt(2, "b", `{}`), plugintest.FrameAt(3, "c", `{}`)))
	require.Len(t, b.take(), 3)
	partitions, err := b.Partitions(b.topic)
	require.NoError(t, err)
	require.Len(t, partitions, 3)
}

func TestABrokerThatIsDownIsNoConfigurationProblem(t *testing.T) {
	h := plugintest.Start(t, plugin, map[string]any{"brokers": []string{"127.0.0.1:1"}})
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`, `{}`))
	require.Len(t, outcomes, 2)
	require.Equal(t, sdk.Retry, outcomes[0].Class)
	require.Contains(t, outcomes[0].Message, "127.0.0.1:1")
	require.Error(t, h.Health())
}

func TestABrokerThatSaysNothingHoldsABatchNoLongerThanItsDeadline(t *testing.T) {
	b := newBroker(t)
	proxy := trouble.NewProxy(t, b.address)
	proxy.Stall()
	h := b.start(map[string]any{"brokers": []string{proxy.Address}, "connect_timeout": "300ms", "delivery_timeout": "600ms"})
	outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Retry, outcomes[0].Class, outcomes[0])
}

func TestABrokerThatIsKilledGetsEverythingWhenItIsBack(t *testing.T) {
	b := newBroker(t)
	h := b.start(map[string]any{"connect_timeout": "1s", "delivery_timeout": "2s"})
	require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)))
	trouble.Service(t, "kill", "kafka")
	many := slices.Repeat([]string{`{}`}, 2000) // giving them up one after the other, with a pause each, takes too long
	outcomes := h.Deliver(plugintest.FrameAt(2, "a", many...))
	require.Len(t, outcomes, len(many))
	for _, o := range outcomes {
		require.Equal(t, sdk.Retry, o.Class, o)
	}
	trouble.Service(t, "revive", "kafka")
	require.NoError(t, b.Client.Close())
	b.open()
	require.Eventually(t, func() bool { return h.Health() == nil }, plugintest.Timeout, 50*time.Millisecond)
	require.Empty(t, h.Deliver(plugintest.FrameAt(2, "a", `{}`, `{}`)))
	got := positions(b.take())
	require.Subset(t, got, []string{"1", "2", "3"})
}

func TestWrongCredentialsHoldTheDestinationAndRightOnesPass(t *testing.T) {
	login, address, _ := strings.Cut(variable(t, "RIVERGATE_TEST_KAFKA_SASL"), "@")
	user, password, _ := strings.Cut(login, ":")
	b := newBroker(t)
	for _, mechanism := range []string{"plain", "scram-sha-256", "scram-sha-512"} {
		h := b.start(map[string]any{"brokers": []string{address}, "sasl": mechanism, "username": user, "password": "wrong-hunter2"})
		outcomes := h.Deliver(plugintest.FrameAt(1, "a", `{}`))
		require.Len(t, outcomes, 1)
		require.Equal(t, sdk.Unauthenticated, outcomes[0].Class, outcomes[0])
		require.NotContains(t, outcomes[0].Message, "hunter2")
		require.Contains(t, outcomes[0].Message, "PASSWORD")
		h = b.start(map[string]any{"brokers": []string{address}, "sasl": mechanism, "username": user, "password": password})
		require.Empty(t, h.Deliver(plugintest.FrameAt(1, "a", `{}`)), mechanism)
	}
	require.Len(t, b.take(), 3)
}

// What was written and not acknowledged to the host comes again after a kill: a Kafka record has no identity that a broker would compare
// over the life of a producer.
func TestKilledInTheMiddleNothingIsLostAndRepetitionsAreFew(t *testing.T) {
	b := newBroker(t)
	batches, last := trouble.Batches(150)
	toll := trouble.KillNines(t, plugintest.Build(t, "."), map[string]any{"brokers": []string{b.address}, "topic": b.topic}, batches, 12)
	require.Zero(t, toll.Known+toll.Again)
	got := positions(b.take())
	there := map[string]bool{}
	for _, p := range got {
		there[p] = true
	}
	require.Len(t, there, int(last))
	t.Logf("%d kills with batches on their way: %d of %d rows are there more than once", toll.Killed, len(got)-len(there), last)
}

func TestBadSettingsAreNamed(t *testing.T) {
	for field, config := range map[string]map[string]any{
		"brokers":  {"brokers": []string{"kafka"}},
		"topic":    {"brokers": []string{"kafka:9092"}, "topic": "a/b"},
		"username": {"brokers": []string{"kafka:9092"}, "sasl": "plain", "password": "hunter2"},
		"password": {"brokers": []string{"kafka:9092"}, "sasl": "plain", "username": "u"},
		"sasl":     {"brokers": []string{"kafka:9092"}, "username": "u"},
		"tls":      {"brokers": []string{"kafka:9092"}, "ca_file": "/x"},
		"ca_file":  {"brokers": []string{"kafka:9092"}, "tls": true, "ca_file": "/nowhere"},
	} {
		problems := plugintest.Connect(t, plugin).Configure(config)
		require.Len(t, problems, 1, "%v", config)
		require.Equal(t, field, problems[0].Field)
		require.NotContains(t, problems[0].Reason, "hunter2")
	}
}
