package main

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"sync"
	"testing"

	"github.com/IBM/sarama"
	"github.com/stretchr/testify/require"
)

// meddler stands between the pusher and a real broker, for a topic of one partition. It sees how record batches are numbered, and does
// to them what a broker cannot be made to do.
type meddler struct {
	Address  string
	broker   string
	listener net.Listener
	running  sync.WaitGroup

	mu       sync.Mutex
	conns    []net.Conn
	attempts []attempt
	next     []deed // what becomes of the next requests; then they pass
}

// attempt is a record batch as it was sent.
type attempt struct {
	producer        int64
	epoch           int16
	sequence, count int32
}

// deed is what becomes of a request to produce.
type deed struct {
	write  bool          // the broker gets it
	answer sarama.KError // what the pusher is told
	mute   bool          // it is told nothing
	cut    bool          // its connection ends instead
}

func newMeddler(t testing.TB, broker string) *meddler {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	m := &meddler{Address: listener.Addr().String(), broker: broker, listener: listener}
	m.running.Go(m.serve)
	t.Cleanup(func() {
		_ = listener.Close()
		m.mu.Lock()
		for _, conn := range m.conns {
			_ = conn.Close() // perhaps for the second time
		}
		m.mu.Unlock()
		m.running.Wait()
	})
	return m
}

// do is what becomes of the next requests. It forgets the attempts.
func (m *meddler) do(deeds ...deed) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.next, m.attempts = deeds, nil
}

func (m *meddler) seen() []attempt {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]attempt(nil), m.attempts...)
}

func (m *meddler) serve() {
	for {
		client, err := m.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", m.broker)
		if err != nil {
			_ = client.Close()
			continue
		}
		m.mu.Lock()
		m.conns = append(m.conns, client, server)
		m.mu.Unlock()
		c := &meddled{meddler: m, client: client, server: server, deeds: map[uint32]deed{}}
		m.running.Go(c.requests)
		m.running.Go(c.answers)
	}
}

type meddled struct {
	*meddler
	client, server net.Conn

	writing sync.Mutex // to client; guards deeds
	deeds   map[uint32]deed
}

func frame(r io.Reader) ([]byte, error) {
	size := make([]byte, 4)
	if _, err := io.ReadFull(r, size); err != nil {
		return nil, err
	}
	all := append(size, make([]byte, binary.BigEndian.Uint32(size))...)
	_, err := io.ReadFull(r, all[4:])
	return all, err
}

func (c *meddled) requests() {
	defer c.server.Close()
	defer c.client.Close()
	for {
		f, err := frame(c.client)
		if err != nil {
			return
		}
		const produce = 0
		if binary.BigEndian.Uint16(f[4:]) == produce {
			topic, made := parseProduce(f)
			correlation := binary.BigEndian.Uint32(f[8:])
			c.mu.Lock()
			c.attempts = append(c.attempts, made)
			d := deed{write: true}
			if len(c.next) > 0 {
				d, c.next = c.next[0], c.next[1:]
			}
			c.mu.Unlock()
			if d.cut && !d.write {
				return
			}
			c.writing.Lock()
			c.deeds[correlation] = d
			if !d.write && !d.mute {
				_, err = c.client.Write(produceAnswer(correlation, topic, d.answer))
			}
			c.writing.Unlock()
			if !d.write {
				continue
			}
		}
		if _, werr := c.server.Write(f); err != nil || werr != nil {
			return
		}
	}
}

func (c *meddled) answers() {
	defer c.client.Close()
	_, port, _ := net.SplitHostPort(c.broker)
	_, ours, _ := net.SplitHostPort(c.Address)
	for {
		f, err := frame(c.server)
		if err != nil {
			return
		}
		f = bytes.ReplaceAll(f, place(port), place(ours)) // in what it says of the cluster
		correlation := binary.BigEndian.Uint32(f[4:])
		c.writing.Lock()
		if d, ok := c.deeds[correlation]; ok {
			delete(c.deeds, correlation)
			switch {
			case d.cut:
				c.writing.Unlock()
				return
			case d.mute:
				c.writing.Unlock()
				continue
			case d.answer != sarama.ErrNoError:
				f = produceAnswer(correlation, answeredTopic(f), d.answer)
			}
		}
		_, err = c.client.Write(f)
		c.writing.Unlock()
		if err != nil {
			return
		}
	}
}

// place is 127.0.0.1:port as it stands in the broker's answers.
func place(port string) []byte {
	n, _ := strconv.Atoi(port)
	return binary.BigEndian.AppendUint32([]byte("127.0.0.1"), uint32(n))
}

// parseProduce reads a ProduceRequest of version 3 to 8 with one record batch.
func parseProduce(f []byte) (topic string, a attempt) {
	text := func() string {
		n := int16(binary.BigEndian.Uint16(f))
		f = f[2:]
		if n < 0 {
			return ""
		}
		s := string(f[:n])
		f = f[n:]
		return s
	}
	f = f[4+2+2+4:]
	text()        // client
	text()        // transaction
	f = f[2+4+4:] // acks, time-out, topics
	topic = text()
	f = f[4+4+4:]             // partitions, partition, length
	f = f[8+4+4+1+4+2+4+8+8:] // up to the numbers of the batch
	a.producer = int64(binary.BigEndian.Uint64(f))
	a.epoch = int16(binary.BigEndian.Uint16(f[8:]))
	a.sequence = int32(binary.BigEndian.Uint32(f[10:]))
	a.count = int32(binary.BigEndian.Uint32(f[14:]))
	return topic, a
}

func answeredTopic(f []byte) string {
	n := binary.BigEndian.Uint16(f[12:])
	return string(f[14 : 14+n])
}

// produceAnswer is a ProduceResponse of version 8 about partition 0.
func produceAnswer(correlation uint32, topic string, code sarama.KError) []byte {
	b := binary.BigEndian.AppendUint32(make([]byte, 4), correlation)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint16(b, uint16(len(topic)))
	b = append(b, topic...)
	b = binary.BigEndian.AppendUint32(b, 1)
	b = binary.BigEndian.AppendUint32(b, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(code))
	for range 3 { // offset, time, first offset: not known
		b = binary.BigEndian.AppendUint64(b, ^uint64(0))
	}
	b = binary.BigEndian.AppendUint32(b, 0) // errors of records
	b = binary.BigEndian.AppendUint16(b, ^uint16(0))
	b = binary.BigEndian.AppendUint32(b, 0) // throttled for
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}
