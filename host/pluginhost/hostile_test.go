package pluginhost

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
	"github.com/rivergate/rivergate/services/gateway/delivery"
)

// besideALiar starts the lying plugin with its lie, and an honest one that has to work on.
func besideALiar(t *testing.T, lie string, change ...func(*Options)) *world {
	t.Helper()
	t.Setenv("LIE", lie)
	w := newWorld(t, change...)
	w.host.pace.backoffMin = 10 * time.Millisecond
	w.host.pace.healthEvery = 20 * time.Millisecond
	w.install("lying")
	w.install("flaky", "honest")
	liar := acme("lying")
	liar.PassEnv = []string{"LIE"}
	w.start(liar, acme("honest", "SHARE", "0"))
	return w
}

// honestServes tells that the other plugin has never noticed anything.
func (w *world) honestServes(s delivery.Session, seq uint64) {
	w.t.Helper()
	deliver(w.t, s, batch(seq, seq, `{}`))
	st := w.status("honest")
	require.Equal(w.t, StateRunning, st.State)
	require.Zero(w.t, st.Restarts)
}

// allocated is how many bytes of the heap were ever asked for.
func allocated() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.TotalAlloc
}

func TestAnAcknowledgementThatIsTooMuchEndsThePluginAndNobodyElse(t *testing.T) {
	for lie, want := range map[string]string{
		"vast-ack":    "killed: it broke the protocol: receive acknowledgement: protocol violation: a message of 256 MiB, and 64 MiB are the most that is allowed",
		"crowded-ack": "killed: it broke the protocol: receive acknowledgement: protocol violation: a message that cannot be taken: a message with more than 1048576 outcomes",
	} {
		t.Run(lie, func(t *testing.T) {
			w := besideALiar(t, lie)
			w.awaitState("lying", StateRunning)
			honest := w.open("honest")
			w.honestServes(honest, 1)
			before := allocated()
			s := w.open("lying")
			require.NoError(t, s.Send(batch(1, 1, `{}`)))
			_, err := s.Recv()
			require.ErrorIs(t, err, protocol.ErrMalformed)
			_, crashed := s.Crashed()
			require.False(t, crashed, "no row is to blame")
			st := w.await("lying", func(s Status) bool { return s.State == StateRunning && s.Restarts == 1 })
			require.Equal(t, want, st.LastError)
			require.Less(t, allocated()-before, uint64(128<<20), "it was refused before it was taken in")
			w.honestServes(honest, 2)
		})
	}
}

func TestADescriptionThatIsTooMuchIsRefusedWithItsSize(t *testing.T) {
	for lie, want := range map[string]string{
		"vast-schema": "its description failed: describe: protocol violation: a message of 100 MiB, and 4 MiB are the most that is allowed",
		"huge-schema": "its configuration schema has 2097186 bytes, 1048576 are the most that is allowed",
		"deep-schema": "its configuration schema is nested more than 100 levels deep",
		"problems":    "; and 8990 more",
	} {
		t.Run(lie, func(t *testing.T) {
			before := allocated()
			w := besideALiar(t, lie)
			st := w.awaitState("lying", StateFailed)
			require.Contains(t, st.Reason, want)
			require.Less(t, len(st.Reason), 5000)
			require.Less(t, allocated()-before, uint64(256<<20))
			w.honestServes(w.open("honest"), 1)
		})
	}
}

func TestWhatAPluginSaysOfItselfIsCutToOneLine(t *testing.T) {
	w := besideALiar(t, "long-name")
	st := w.awaitState("lying", StateRunning)
	for _, text := range []string{st.Version, st.Author, st.Summary} {
		require.LessOrEqual(t, len(text), longReason+len(" …"))
		require.NotEmpty(t, text)
		require.NotContains(t, text, "\n")
		require.NotContains(t, text, "\x1b")
	}
}

func TestAHealthReasonOfAnyLengthIsBounded(t *testing.T) {
	t.Run("cut", func(t *testing.T) {
		w := besideALiar(t, "huge-reason")
		st := w.await("lying", func(s Status) bool { return strings.HasPrefix(s.Reason, "not healthy: so unwell so") })
		require.Less(t, len(st.Reason), 400)
		require.Equal(t, StateRunning, st.State)
	})
	t.Run("refused", func(t *testing.T) {
		w := besideALiar(t, "vast-reason")
		honest := w.open("honest")
		st := w.await("lying", func(s Status) bool { return s.Restarts > 0 })
		require.Equal(t, "killed: it broke the protocol: health of lying: protocol violation: a message of 100 MiB, and 4 MiB are the most that is allowed", st.LastError)
		w.honestServes(honest, 1)
	})
}

func TestAcknowledgementsWithoutEndTakeNoMemory(t *testing.T) {
	w := besideALiar(t, "endless-acks")
	s, honest := w.open("lying"), w.open("honest")
	require.NoError(t, s.Send(batch(1, 1, `{}`)))
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before := m.HeapInuse
	for range 200_000 {
		ack, err := s.Recv()
		require.NoError(t, err)
		require.Equal(t, uint64(1), ack.ThroughSeq)
	}
	runtime.GC()
	runtime.ReadMemStats(&m)
	require.Less(t, m.HeapInuse, before+64<<20)
	w.honestServes(honest, 1)
	// Nobody reads any more: the flow control of the stream holds the plugin back, and it can be ended.
	s.Kill("the test has heard enough")
	how, _ := s.Crashed()
	require.True(t, strings.HasPrefix(how, "killed: the test has heard enough"), how) // and whether it answered a last health check
}

func TestAPluginThatReadsNothingIsEndedWhateverWaitsForIt(t *testing.T) {
	for name, end := range map[string]func(w *world, s delivery.Session){
		"killed":  func(_ *world, s delivery.Session) { s.Kill("it does not read") },
		"closed":  func(_ *world, s delivery.Session) { s.Close() },
		"stopped": func(w *world, _ delivery.Session) { _ = w.host.Stop(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			w := besideALiar(t, "never-reads", func(o *Options) { o.StopTimeout = time.Second })
			s, honest := w.open("lying"), w.open("honest")
			row := `"` + strings.Repeat("x", 4<<20) + `"`
			sent, full := make(chan int, 100), make(chan error, 1)
			go func() {
				for seq := uint64(1); ; seq++ {
					if err := s.Send(batch(seq, seq, row)); err != nil {
						full <- err
						return
					}
					sent <- int(seq)
				}
			}()
			n := 0
			for n < 2 { // the window of a stream has room for one and a half
				n = <-sent
			}
			w.honestServes(honest, 1)
			honest.Close()
			end(w, s)
			select {
			case err := <-full:
				require.Error(t, err)
			case <-time.After(patience):
				require.Fail(t, "Send still waits")
			}
			require.Less(t, n+len(sent), 20, "what is on its way is bounded")
		})
	}
}

func TestStreamsThatEndAtOnceCostNothingButThemselves(t *testing.T) {
	w := besideALiar(t, "hangs-up")
	honest := w.open("honest")
	pid := w.pid("lying")
	for range 200 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		s, err := w.host.Destination("lying").Open(ctx)
		cancel()
		require.NoError(t, err)
		_ = s.Send(batch(1, 1, `{}`))
		_, err = s.Recv()
		require.Error(t, err)
		s.Close()
	}
	require.Equal(t, pid, w.pid("lying"), "its process lives; delivery makes pauses between barren streams")
	w.honestServes(honest, 1)
}

func TestASocketThatNobodyAcceptsOnIsToldAsSuch(t *testing.T) {
	w := besideALiar(t, "never-accepts", func(o *Options) { o.StartTimeout = 2 * time.Second })
	st := w.awaitState("lying", StateFailed)
	require.Equal(t, "it announced itself and then did not answer within 2s; killed", st.Reason)
	w.honestServes(w.open("honest"), 1)
}

func TestAFloodOfOnePluginsLogLeavesTheOthersAlone(t *testing.T) {
	w := newWorld(t)
	w.install("chatty")
	w.install("flaky", "honest")
	w.start(acme("chatty", "LINES", "10000", "LINE", "10"), acme("honest", "SHARE", "0"))
	chatty, honest := w.open("chatty"), w.open("honest")
	for seq := range uint64(10) {
		deliver(t, chatty, batch(seq+1, seq, `{}`))
		w.honestServes(honest, seq+1)
	}
	require.Equal(t, StateRunning, w.status("chatty").State)
	require.Zero(t, w.status("chatty").Restarts)
	require.NoError(t, stopClosed(w, chatty, honest))
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	text := w.log.buf.String()
	require.Less(t, strings.Count(text, "one of many"), 100_000/2)
	require.Contains(t, text, "lines left out")
	require.GreaterOrEqual(t, strings.Count(text, "a long line"), 10, "its warnings are all there")
}

func stopClosed(w *world, open ...delivery.Session) error {
	for _, s := range open {
		s.Close()
	}
	if err := w.host.Stop(context.Background()); err != nil {
		return fmt.Errorf("stop: %w", err)
	}
	return nil
}

// referring is a schema of so many definitions, each of which refers to the next one twenty times.
func referring(keyword string, levels int) json.RawMessage {
	var text strings.Builder
	text.WriteString(`{"type":"object","properties":{"x":{"$ref":"#/$defs/a0"}},"$defs":{`)
	for i := range levels {
		next := strings.Repeat(fmt.Sprintf(`,{"$ref":"#/$defs/a%d"}`, i+1), 20)
		fmt.Fprintf(&text, `"a%d":{"type":"string",%q:[%s]},`, i, keyword, next[1:])
	}
	fmt.Fprintf(&text, `"a%d":{"type":"string"}}}`, levels)
	return json.RawMessage(text.String())
}

func TestASchemaThatWouldTakeForeverToFollowIsRefused(t *testing.T) {
	for _, keyword := range []string{"allOf", "anyOf"} {
		err := bound(&protocol.Hello{}, &protocol.Description{ConfigSchema: referring(keyword, 8)})
		require.ErrorContains(t, err, "parts once its references are followed")
		require.NoError(t, bound(&protocol.Hello{}, &protocol.Description{ConfigSchema: referring(keyword, 3)}))
	}
	tree := `{"type":"object","properties":{"x":{"$ref":"#/$defs/t"}},"$defs":{"t":{"type":"object","properties":{"l":{"$ref":"#/$defs/t"},"r":{"$ref":"#/$defs/t"}}}}}`
	require.NoError(t, bound(&protocol.Hello{}, &protocol.Description{ConfigSchema: json.RawMessage(tree)}), "it may refer to itself")
}

func TestASchemaThatRefersToItselfIsMaskedAtOnce(t *testing.T) {
	itself := strings.Repeat(`,{"$ref":"#/$defs/a"}`, 20)
	schema := json.RawMessage(`{"type":"object","properties":{"x":{"type":"string"}},"anyOf":[{}` + itself + `],"$defs":{"a":{"anyOf":[{}` + itself + `]}}}`)
	config, err := acme("acme", "X", "v").config(schema)
	require.NoError(t, err)
	done := make(chan string, 1)
	go func() {
		shown, _ := maskConfig(schema, config)
		done <- shown
	}()
	select {
	case shown := <-done:
		require.Equal(t, `{"x":"v"}`, shown)
	case <-time.After(patience):
		require.Fail(t, "it is followed for ever")
	}
}
