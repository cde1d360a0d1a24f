package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/plugins/internal/trouble"
	"github.com/rivergate/rivergate/sdk"
	"github.com/rivergate/rivergate/sdk/plugintest"
	"github.com/rivergate/rivergate/sdk/protocol"
)

func frameAt(position uint64, rows ...string) protocol.Frame {
	return plugintest.FrameAt(position, "a1b2", rows...)
}

func numbered(n int) []string {
	rows := make([]string, n)
	for i := range rows {
		rows[i] = fmt.Sprintf(`{"n":%d}`, i)
	}
	return rows
}

func TestRowsArriveAsTheyWereSent(t *testing.T) {
	s := shared(t)
	h := s.start()
	data := []string{`{"b": 1.50,"a":1e400,"b":"\u0041\\ \" \n é\u0000"}`, "{\n\t\"tab\":\r\n 1}", `{}`}
	frame := plugintest.Indexed(frameAt(1<<62, data...), 0, protocol.NoIndex, 95)
	frame.OrgID, frame.UUID = 42, "we\\ird\t\"uuid\"\n\x00"
	require.Empty(t, h.Deliver(frame))
	at := func(position uint64, data string) map[string]any {
		return map[string]any{"position": fmt.Sprint(position), "org_id": "42", "uuid": frame.UUID, "received_at": "2026-01-02T03:04:05.678Z", "data": data}
	}
	first, second, third := at(1<<62, data[0]), at(1<<62+1, data[1]), at(1<<62+2, data[2])
	first["index"], third["index"] = "0", "95"
	require.Equal(t, []map[string]any{first, second, third}, s.entries(s.prefix+"42"))
}

func TestARowThatComesAgainIsThereOnceInWhateverOrder(t *testing.T) {
	s := shared(t)
	h := s.start()
	require.Empty(t, h.Deliver(frameAt(bitmapBits+10, numbered(3)...)))
	require.Empty(t, h.Deliver(frameAt(bitmapBits-2, numbered(5)...)), "older positions, over the edge of a bitmap")
	h.Reopen()
	outcomes := h.Deliver(frameAt(bitmapBits+8, numbered(7)...))
	require.Len(t, outcomes, 3)
	for i, o := range outcomes {
		require.Equal(t, sdk.Duplicate, o.Class)
		require.Equal(t, uint64(bitmapBits+10+i), o.Position+uint64(o.Row))
	}
	var relative []int
	for _, p := range s.positions(s.prefix + "1") {
		relative = append(relative, int(p)-bitmapBits)
	}
	require.Equal(t, []int{10, 11, 12, -2, -1, 0, 1, 2, 8, 9, 13, 14}, relative)
}

func TestTwoProcessesAppendEachRowOnce(t *testing.T) {
	s := shared(t)
	var done sync.WaitGroup
	for range 2 {
		h := s.start()
		done.Go(func() {
			for i := range uint64(20) {
				if _, err := h.TryDeliver(frameAt(i*50, numbered(100)...)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	done.Wait()
	seen := map[uint64]bool{}
	for _, p := range s.positions(s.prefix + "1") {
		require.False(t, seen[p], "position %d is there twice", p)
		seen[p] = true
	}
	require.Len(t, seen, 19*50+100)
}

func TestEachUUIDCanHaveAStream(t *testing.T) {
	s := shared(t)
	h := s.start("key", s.prefix+"{org}/{uuid}")
	a, b := frameAt(1, numbered(2)...), frameAt(3, numbered(1)...)
	a.UUID, b.UUID = "a", "b"
	require.Empty(t, h.Deliver(a, b))
	require.Equal(t, []uint64{1, 2}, s.positions(s.prefix+"1/a"))
	require.Equal(t, []uint64{3}, s.positions(s.prefix+"1/b"))
}

func TestWrongSettingsAreNamed(t *testing.T) {
	for name, c := range map[string]struct {
		config   map[string]any
		property string
		says     string
	}{
		"no URL of Redis":               {map[string]any{"url": "redis://u:hunter2@host/notanumber"}, "url", "redis://"},
		"a key that a client chooses":   {map[string]any{"url": "redis://h", "key": "{uuid}"}, "key", "must begin with a text"},
		"an unknown word":               {map[string]any{"url": "redis://h", "key": "rows:{day}"}, "key", "{day}"},
		"a brace too many":              {map[string]any{"url": "redis://h", "key": "rows:{org"}, "key", "unmatched"},
		"positions that a uuid can be":  {map[string]any{"url": "redis://h", "key": "rows:{uuid}", "positions": "rows:positions"}, "positions", "begins like KEY"},
		"streams that are positions":    {map[string]any{"url": "redis://h", "key": "rows:{uuid}", "positions": "rows"}, "positions", "begins like KEY"},
		"positions with a row's own":    {map[string]any{"url": "redis://h", "positions": "p:{uuid}"}, "positions", "{instance}"},
		"positions without a character": {map[string]any{"url": "redis://h", "key": "r", "positions": "{uuid"}, "positions", "{instance}"},
	} {
		t.Run(name, func(t *testing.T) {
			h := plugintest.Connect(t, plugin)
			problems := h.Configure(c.config)
			require.Len(t, problems, 1)
			require.Equal(t, c.property, problems[0].Field)
			require.Contains(t, problems[0].Reason, c.says)
			require.NotContains(t, problems[0].Reason, "hunter2")
		})
	}
}

func TestALongStreamIsTrimmed(t *testing.T) {
	s := shared(t)
	h := s.start("maxlen", 500)
	for i := range uint64(5) {
		require.Empty(t, h.Deliver(frameAt(i*1000, numbered(1000)...)))
	}
	n, err := s.XLen(context.Background(), s.prefix+"1").Result()
	require.NoError(t, err)
	require.GreaterOrEqual(t, n, int64(500))
	require.Less(t, n, int64(1000), "about 500: whole nodes of a hundred entries go")
	plugintest.RequireAll(t, h.Deliver(frameAt(0, numbered(1000)...)), 1000, sdk.Duplicate, "duplicate") // what was trimmed is known all the same
}

func TestPositionsAreForgottenAfterTheTimeThatWasSet(t *testing.T) {
	s := shared(t)
	h := s.start("remember", "1h")
	require.Empty(t, h.Deliver(frameAt(1, `{}`)))
	left, err := s.TTL(context.Background(), "positions-"+s.prefix+":0").Result()
	require.NoError(t, err)
	require.InDelta(t, time.Hour, left, float64(time.Minute))
	forever := s.start("remember", "0s", "positions", "positions-"+s.prefix+"2")
	require.Empty(t, forever.Deliver(frameAt(1, `{}`)))
	left, err = s.TTL(context.Background(), "positions-"+s.prefix+"2:0").Result()
	require.NoError(t, err)
	require.Equal(t, time.Duration(-1), left, "no end")
}

func TestAFullServerThrottlesAndTakesTheRowsWhenThereIsRoom(t *testing.T) {
	s := alone(t, "--maxmemory-policy", "noeviction")
	h := s.start()
	require.Empty(t, h.Deliver(frameAt(1, numbered(10)...)))
	s.set("maxmemory", "1")
	o := plugintest.RequireAll(t, h.Deliver(frameAt(5, numbered(20)...)), 20, sdk.Throttled, "OOM")
	require.Contains(t, o.Message, "maxmemory")
	s.set("maxmemory", "0")
	require.Len(t, h.Deliver(frameAt(5, numbered(20)...)), 6)
	require.Len(t, s.positions(s.prefix+"1"), 24)
}

func TestAKeyThatIsNoStreamHoldsItsOwnRowsAlone(t *testing.T) {
	s := shared(t)
	h := s.start("key", s.prefix+"{uuid}")
	require.NoError(t, s.Set(context.Background(), s.prefix+"a", "text", 0).Err())
	a, b := frameAt(1, numbered(2)...), frameAt(3, numbered(1)...)
	a.UUID, b.UUID = "a", "b"
	o := plugintest.RequireAll(t, h.Deliver(a, b), 2, sdk.Retry, "WRONGTYPE")
	require.Contains(t, o.Message, s.prefix+"a")
	require.Equal(t, []uint64{3}, s.positions(s.prefix+"b"))
	require.NoError(t, s.Del(context.Background(), s.prefix+"a").Err())
	require.Len(t, h.Deliver(a, b), 1, "a's are new, b's is known")
	require.Equal(t, []uint64{1, 2}, s.positions(s.prefix+"a"))
}

func TestPositionsThatAreNoneHoldEverything(t *testing.T) {
	s := shared(t)
	h := s.start()
	require.NoError(t, s.RPush(context.Background(), "positions-"+s.prefix+":0", "x").Err())
	o := plugintest.RequireAll(t, h.Deliver(frameAt(1, `{}`)), 1, sdk.Retry, "WRONGTYPE")
	require.Contains(t, o.Message, "POSITIONS")
}

func TestARowThatIsTooLongIsRejectedAlone(t *testing.T) {
	s := alone(t, "--proto-max-bulk-len", "1mb")
	h := s.start()
	rows := numbered(20)
	rows[7] = `{"long":"` + strings.Repeat("x", 2<<20) + `"}`
	outcomes := h.Deliver(frameAt(100, rows...))
	require.Len(t, outcomes, 1)
	require.Equal(t, sdk.Rejected, outcomes[0].Class, outcomes[0].Message)
	require.Equal(t, "too_long", outcomes[0].Code)
	require.Equal(t, 7, outcomes[0].Row)
	require.Contains(t, outcomes[0].Message, "proto-max-bulk-len")
	require.Len(t, s.positions(s.prefix+"1"), 19)
}

func TestWrongCredentialsHoldTheDestination(t *testing.T) {
	s := alone(t, "--requirepass", "right")
	for name, c := range map[string]struct{ login, code string }{
		"none":           {"", "NOAUTH"},
		"wrong password": {":wrong-hunter2@", "WRONGPASS"},
		"unknown user":   {"nobody:wrong-hunter2@", "WRONGPASS"},
	} {
		t.Run(name, func(t *testing.T) {
			h := s.start("url", "redis://"+c.login+s.address)
			o := plugintest.RequireAll(t, h.Deliver(frameAt(1, numbered(2)...)), 2, sdk.Unauthenticated, c.code)
			require.NotContains(t, o.Message, "hunter2")
			require.Error(t, h.Health())
		})
	}
	require.Empty(t, s.start("url", "redis://:right@"+s.address).Deliver(frameAt(1, `{}`)))
}

func TestAPermissionThatIsMissingIsNamed(t *testing.T) {
	s := alone(t)
	require.NoError(t, s.Do(context.Background(), "ACL", "SETUSER", "writer", "on", ">right", "~other*", "+@all").Err())
	h := s.start("url", "redis://writer:right@"+s.address)
	o := plugintest.RequireAll(t, h.Deliver(frameAt(1, `{}`)), 1, sdk.Unauthenticated, "NOPERM")
	require.Contains(t, o.Message, "KEY and POSITIONS")
	require.NoError(t, s.Do(context.Background(), "ACL", "SETUSER", "writer", "resetkeys", "~"+s.prefix+"*", "~positions-*", "-@all",
		"+evalsha", "+script|load", "+type", "+xadd", "+getbit", "+setbit", "+expire", "+wait", "+ping").Err())
	require.Empty(t, h.Deliver(frameAt(1, `{}`)), "what the message lists is enough")
	require.NoError(t, h.Health())
}

func TestAServerThatIsDownIsNoConfigurationProblem(t *testing.T) {
	h := plugintest.Start(t, plugin, map[string]any{"url": "redis://u:hunter2@127.0.0.1:1"})
	o := plugintest.RequireAll(t, h.Deliver(frameAt(1, numbered(2)...)), 2, sdk.Retry, "connection")
	require.Contains(t, o.Message, "127.0.0.1:1")
	require.NotContains(t, o.Message, "hunter2")
	require.Error(t, h.Health())
}

func TestAServerThatIsSlowDelaysRowsAndDoublesNone(t *testing.T) {
	s := alone(t)
	h := s.start("command_timeout", "200ms", "connect_timeout", "200ms")
	require.Empty(t, h.Deliver(frameAt(1, `{}`)))
	require.NoError(t, s.Do(context.Background(), "CLIENT", "PAUSE", "60000", "WRITE").Err())
	begun := time.Now()
	plugintest.RequireAll(t, h.Deliver(frameAt(2, numbered(3)...)), 3, sdk.Retry, "timeout")
	require.Less(t, time.Since(begun), 2*time.Second)
	require.NoError(t, s.Do(context.Background(), "CLIENT", "UNPAUSE").Err())
	h.Deliver(frameAt(2, numbered(3)...))
	require.Equal(t, []uint64{1, 2, 3, 4}, s.positions(s.prefix+"1"))
}

func TestAServerThatIsKilledAndComesBackHasEachRowOnce(t *testing.T) {
	s := alone(t, "--appendonly", "yes", "--appendfsync", "always")
	h := s.start()
	require.Empty(t, h.Deliver(frameAt(1, numbered(100)...)))
	s.kill()
	plugintest.RequireAll(t, h.Deliver(frameAt(50, numbered(100)...)), 100, sdk.Retry, "connection")
	s.run()
	require.Len(t, h.Deliver(frameAt(50, numbered(100)...)), 51, "the script is loaded again, and the positions are known")
	require.Len(t, s.positions(s.prefix+"1"), 149)
}

func TestAServerThatTakesNoWritesIsWaitedFor(t *testing.T) {
	s := alone(t, "--replicaof", "127.0.0.1 1")
	h := s.start()
	plugintest.RequireAll(t, h.Deliver(frameAt(1, numbered(2)...)), 2, sdk.Retry, "READONLY")
	require.NoError(t, s.Do(context.Background(), "REPLICAOF", "NO", "ONE").Err())
	require.Empty(t, h.Deliver(frameAt(1, numbered(2)...)), "promoted")
}

func TestABatchCountsWhenTheReplicasHaveIt(t *testing.T) {
	s := alone(t)
	h := s.start("replicas", 1, "command_timeout", "1s")
	o := plugintest.RequireAll(t, h.Deliver(frameAt(1, numbered(2)...)), 2, sdk.Retry, "replicas")
	require.Contains(t, o.Message, "0 of 1 replicas")
	plugintest.RequireAll(t, h.Deliver(frameAt(1, numbered(2)...)), 2, sdk.Retry, "replicas") // known, and still on no replica
	host, port, _ := strings.Cut(s.address, ":")
	replica := alone(t, "--replicaof", host+" "+port)
	require.Eventually(t, func() bool {
		return strings.Contains(s.Info(context.Background(), "replication").Val(), "state=online")
	}, 30*time.Second, 10*time.Millisecond)
	h = s.start("replicas", 1)
	plugintest.RequireAll(t, h.Deliver(frameAt(1, numbered(2)...)), 2, sdk.Duplicate, "duplicate")
	require.Empty(t, h.Deliver(frameAt(3, numbered(2)...)))
	require.Equal(t, []uint64{1, 2, 3, 4}, replica.positions(s.prefix+"1"))
}

func TestRowsAreThereOnceAfterManyKillNines(t *testing.T) {
	s := shared(t)
	last := trouble.KnownOnce(t, s.config())
	seen := map[uint64]bool{}
	for _, p := range s.positions(s.prefix + "1") {
		require.False(t, seen[p], "position %d is there twice", p)
		seen[p] = true
	}
	require.Len(t, seen, int(last))
}
