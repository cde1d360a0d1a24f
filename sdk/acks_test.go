package sdk

import (
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rivergate/rivergate/sdk/protocol"
)

func TestAcknowledgementsThatSayNothingOfRowsLeaveTogetherAndTheOthersAlone(t *testing.T) {
	refused := []protocol.Outcome{{Position: 3, Class: protocol.Rejected}}
	held, release := make(chan struct{}), make(chan struct{})
	var sent []protocol.Ack
	a := sendAcks(func(ack protocol.Ack) error {
		if ack.ThroughSeq == 1 {
			close(held)
			<-release
		}
		sent = append(sent, ack)
		return nil
	})
	require.NoError(t, a.put(protocol.Ack{ThroughSeq: 1}))
	<-held // the first is on its way: the others wait for it
	for seq := uint64(2); seq <= 7; seq++ {
		ack := protocol.Ack{ThroughSeq: seq, Window: 3}
		if seq == 4 || seq == 5 {
			ack.Outcomes = refused
		}
		require.NoError(t, a.put(ack))
	}
	close(release)
	require.NoError(t, a.close())
	require.Equal(t, []protocol.Ack{
		{ThroughSeq: 1}, {ThroughSeq: 3, Window: 3},
		{ThroughSeq: 4, Window: 3, Outcomes: refused}, {ThroughSeq: 5, Window: 3, Outcomes: refused}, {ThroughSeq: 7, Window: 3},
	}, sent)
}

func TestAnAcknowledgementThatCannotBeSentIsTold(t *testing.T) {
	broken := errors.New("broken")
	a := sendAcks(func(protocol.Ack) error { return broken })
	require.NoError(t, a.put(protocol.Ack{ThroughSeq: 1}))
	require.ErrorIs(t, a.close(), broken)
}
