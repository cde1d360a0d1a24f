package sdk

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestAcknowledgementsThatSayNothingOfRowsLeaveTogetherAndTheOthersAlone(t *testing.T) {
	refused := []protocol.Outcome{{Position: 3, Class: protocol.Rejected}}
	leaving, release := make(chan struct{}), make(chan struct{})
	var sent []protocol.Ack
	a := sendAcks(func(ack protocol.Ack) error {
		if ack.ThroughSeq == 1 {
			close(leaving)
			<-release
		}
		sent = append(sent, ack)
		return nil
	})
	first := make(chan error, 1)
	go func() { first <- a.put(protocol.Ack{ThroughSeq: 1}, now) }()
	<-leaving // the first is on its way: the others, which came together, wait for it
	for seq := uint64(2); seq <= 7; seq++ {
		ack := protocol.Ack{ThroughSeq: seq, Window: 3}
		if seq == 4 || seq == 5 {
			ack.Outcomes = refused
		}
		require.NoError(t, a.put(ack, held))
	}
	close(release)
	require.NoError(t, <-first)
	require.NoError(t, a.close())
	require.Equal(t, []protocol.Ack{
		{ThroughSeq: 1}, {ThroughSeq: 3, Window: 3},
		{ThroughSeq: 4, Window: 3, Outcomes: refused}, {ThroughSeq: 5, Window: 3, Outcomes: refused}, {ThroughSeq: 7, Window: 3},
	}, sent)
}

func TestAnAcknowledgementDoesNotWaitForABatchThatTakesItsTime(t *testing.T) {
	sent := make(chan protocol.Ack, 2)
	a := sendAcks(func(ack protocol.Ack) error { sent <- ack; return nil })
	for seq := uint64(1); seq <= 2; seq++ { // the one that comes with it is never done
		require.NoError(t, a.put(protocol.Ack{ThroughSeq: seq}, held))
		select {
		case ack := <-sent:
			require.Equal(t, protocol.Ack{ThroughSeq: seq}, ack)
		case <-time.After(10 * time.Second):
			t.Fatal("it waits")
		}
	}
	require.NoError(t, a.close())
	require.Empty(t, sent)
}

func TestTheAcknowledgementOfABatchThatCameAloneIsSent(t *testing.T) {
	sent := make(chan protocol.Ack, 1)
	a := sendAcks(func(ack protocol.Ack) error { sent <- ack; return nil })
	require.NoError(t, a.put(protocol.Ack{ThroughSeq: 1}, soon))
	require.Equal(t, protocol.Ack{ThroughSeq: 1}, <-sent)
	require.NoError(t, a.close())
}

func TestWhatIsHeldBackIsSentAtTheEnd(t *testing.T) {
	var sent []protocol.Ack
	a := sendAcks(func(ack protocol.Ack) error { sent = append(sent, ack); return nil })
	require.NoError(t, a.put(protocol.Ack{ThroughSeq: 1}, held))
	require.NoError(t, a.close())
	require.Equal(t, []protocol.Ack{{ThroughSeq: 1}}, sent)
}

func TestAnAcknowledgementThatCannotBeSentIsTold(t *testing.T) {
	broken := errors.New("broken")
	a := sendAcks(func(protocol.Ack) error { return broken })
	require.ErrorIs(t, a.put(protocol.Ack{ThroughSeq: 1}, now), broken)
	require.ErrorIs(t, a.put(protocol.Ack{ThroughSeq: 2}, held), broken)
	require.ErrorIs(t, a.close(), broken)
}
