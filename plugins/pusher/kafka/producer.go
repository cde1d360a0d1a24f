package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/IBM/sarama"
)

const (
	// retryPause is how long the producer waits before it asks for the leader of a partition again.
	retryPause = 100 * time.Millisecond
	// groupBytes is when a request to a broker is large enough to leave without the other partitions that have something to send. The
	// broker works on the requests of a connection one after the other: it has the next one while this one's rows are written.
	groupBytes = 1 << 20
	// maxFlying is how many requests to a broker wait for their answers at once, each for other partitions.
	maxFlying = 5
)

var errEnded = errors.New("the connection was given up because of another batch")

// producer is an idempotent producer (acks of all replicas) on a client. What several batches have for a partition goes together, as
// soon as what was sent before is answered: one record batch of a partition is on its way at a time, so that what is retried stays in
// order and is written once. It retries for as long as it is let: the deadline of a Deliver ends it.
type producer struct {
	*Kafka
	client sarama.Client
	limit  int             // bytes of a record batch
	life   context.Context //nolint:containedctx // of its connections and goroutines
	cut    context.CancelFunc
	broken chan struct{} // closed when failed is set: whoever waits for records is to drop the producer
	stray  chan struct{} // holds one: there are partitions in lost
	run    sync.WaitGroup

	mu         sync.Mutex // guards what follows, and all partitions, lanes and deliveries
	ending     bool       // send no more
	over       bool       // what comes now is not heard
	failed     error      // no row's own fault, and not to be mended by trying again
	partitions map[int32]*partition
	lanes      map[int32]*lane // by broker
	lost       []*partition    // whose leader is to be found
}

// lane is the way to one broker.
type lane struct {
	wake   chan struct{} // holds one
	broker *sarama.Broker
	broken bool         // its connection is to be closed before the broker is used again
	ready  []*partition // have something to send, in turn
	flying int          // requests without an answer
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// connected returns a producer that was seen to work, or makes one: a broker answers and has the topic.
func (k *Kafka) connected(ctx context.Context) (*producer, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.connect(ctx); err != nil {
		return nil, err
	}
	return k.producer, nil
}

// connect makes a producer where there is none. The caller holds mu.
func (k *Kafka) connect(ctx context.Context) error {
	if k.producer != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 2*k.ConnectTimeout)
	defer cancel()
	life, cut := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, cut)
	client, limit, err := k.open(life)
	if inTime := stop(); err != nil || !inTime {
		cut()
		if client != nil {
			_ = client.Close() // it has no state to lose
		}
		if ctx.Err() != nil {
			err = fmt.Errorf("connect: %w", ctx.Err())
		}
		return err
	}
	p := &producer{
		Kafka: k, client: client, limit: limit, life: life, cut: cut, broken: make(chan struct{}), stray: make(chan struct{}, 1),
		partitions: map[int32]*partition{}, lanes: map[int32]*lane{},
	}
	p.run.Go(p.findLeaders)
	k.producer = p
	return nil
}

// drop ends the producer; the next batch makes a new one. When it returns every record that was given to it is settled.
func (k *Kafka) drop(p *producer) {
	k.mu.Lock() // as long as it takes: the next one goes on with its numbers
	defer k.mu.Unlock()
	if k.producer == p {
		k.producer = nil
		p.close()
	}
}

// close gives up what is on its way.
func (p *producer) close() {
	p.mu.Lock()
	p.ending = true
	p.mu.Unlock()
	p.cut()
	_ = p.client.Close() // it has no state to lose
	p.run.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	for _, q := range p.partitions {
		err := p.failed
		if err == nil {
			err = errEnded
			if q.err != nil {
				err = fmt.Errorf("%w; partition %d: %w", errEnded, q.id, q.err)
			}
		}
		q.giveUp(err)
	}
}

// add takes records. It never waits.
func (p *producer) add(shares map[int32]part) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, share := range shares {
		if p.ending {
			share.fail(errEnded)
			continue
		}
		q := p.partitions[id]
		if q == nil {
			q = &partition{id: id, numbers: p.identity.of(id)}
			p.partitions[id] = q
			p.lose(q, nil)
		}
		q.waiting = append(q.waiting, share)
		p.queue(q)
	}
}

// queue has a partition's records sent when they can be. The caller holds mu.
func (p *producer) queue(q *partition) {
	if q.lane == nil || q.queued || q.sent || !q.hasRecords() {
		return
	}
	q.queued = true
	q.lane.ready = append(q.lane.ready, q)
	wake(q.lane.wake)
}

// lose has a partition's leader looked for. The caller holds mu.
func (p *producer) lose(q *partition, err error) {
	if err != nil && q.err == nil {
		p.log.Debug("a partition's records are to be sent again", "partition", q.id, "error", err)
	}
	q.lane, q.err = nil, err
	p.lost = append(p.lost, q)
	wake(p.stray)
}

// send is a lane's goroutine.
func (p *producer) send(l *lane) {
	for {
		select {
		case <-p.life.Done():
			return
		case <-l.wake:
		}
		for {
			broker, request, sent := p.take(l)
			if len(sent) == 0 {
				break
			}
			answered := func(answer *sarama.ProduceResponse, err error) { p.answered(l, broker, sent, answer, err) }
			if err := broker.AsyncProduce(request, answered); err != nil {
				answered(nil, err)
			}
		}
	}
}

// take makes the next request.
func (p *producer) take(l *lane) (*sarama.Broker, *sarama.ProduceRequest, []*partition) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ending || p.failed != nil || l.flying >= maxFlying || len(l.ready) == 0 {
		return nil, nil, nil
	}
	request := &sarama.ProduceRequest{Version: 8, RequiredAcks: sarama.WaitForAll, Timeout: int32(p.ConnectTimeout / time.Millisecond)}
	var sent []*partition
	for bytes := 0; len(l.ready) > 0 && bytes < groupBytes; {
		q := l.ready[0]
		l.ready = l.ready[1:]
		q.queued, q.sent = false, true
		b := q.next(p.limit, compressions[p.Compression])
		bytes += b.bytes
		request.AddBatch(p.Topic, q.id, b.records)
		sent = append(sent, q)
	}
	l.flying++
	return l.broker, request, sent
}

// answered hears the answer to a request, or why there is none. It may be called by the connection's own goroutine, so it asks
// nothing of the broker.
func (p *producer) answered(l *lane, broker *sarama.Broker, sent []*partition, answer *sarama.ProduceResponse, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	l.flying--
	if err != nil && broker == l.broker && !errors.Is(err, sarama.ErrNotConnected) {
		l.broken = true
	}
	for _, q := range sent {
		q.sent = false
		said := err
		if said == nil {
			said = answerOf(answer.GetBlock(p.Topic, q.id))
		}
		p.judge(q, said)
	}
	if len(l.ready) > 0 {
		wake(l.wake)
	}
}

// judge does what the answer to a partition's batch asks for. The caller holds mu.
func (p *producer) judge(q *partition, err error) {
	switch meaning := meaningOf(err); {
	case meaning == isDelivered:
		q.delivered()
	case meaning == isRefused, meaning == isCorrupt && q.corrupt():
		q.refused(err)
	case meaning == isAgain, meaning == isCorrupt:
		p.lose(q, err)
		return
	case meaning == isMisnumbered:
		q.numbers.renew()
		p.lose(q, err)
		return
	case meaning == isUnknownProducer:
		q.numbers.forget()
		p.lose(q, err)
		return
	default:
		if p.failed == nil {
			p.failed = err
			close(p.broken)
		}
		return
	}
	q.err = nil
	p.queue(q)
}

// findLeaders is the goroutine that gives partitions their lanes.
func (p *producer) findLeaders() {
	pause := time.NewTimer(0)
	defer pause.Stop()
	<-pause.C
	for {
		select {
		case <-p.life.Done():
			return
		case <-p.stray:
		}
		p.mu.Lock()
		lost := p.lost
		p.lost = nil
		p.mu.Unlock()
		var err error
		if troubled(lost) {
			pause.Reset(retryPause)
			select {
			case <-p.life.Done():
				return // close settles what is in lost
			case <-pause.C:
			}
			p.closeBroken()
			err = p.client.RefreshMetadata(p.Topic)
		}
		for _, q := range lost {
			p.find(q, err)
		}
	}
}

func troubled(lost []*partition) bool {
	for _, q := range lost {
		if q.err != nil {
			return true
		}
	}
	return false
}

// closeBroken closes connections that failed; the client opens them again.
func (p *producer) closeBroken() {
	p.mu.Lock()
	var broken []*lane
	for _, l := range p.lanes {
		if l.broken {
			broken = append(broken, l)
		}
	}
	p.mu.Unlock()
	for _, l := range broken {
		_ = l.broker.Close() // all that was sent through it is answered, with an error, when it returns
		p.mu.Lock()
		l.broken = false
		p.mu.Unlock()
	}
}

// find gives a partition the lane of its leader; failed says why the leaders are not known.
func (p *producer) find(q *partition, failed error) {
	broker, err := (*sarama.Broker)(nil), failed
	if err == nil {
		broker, err = p.client.Leader(p.Topic, q.id)
	}
	if err == nil {
		err = p.identify(q)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if err != nil {
		if meaningOf(err) == isFatal && p.failed == nil {
			p.failed = err
			close(p.broken)
			return
		}
		p.lose(q, err)
		return
	}
	l := p.lanes[broker.ID()]
	if l == nil {
		l = &lane{wake: make(chan struct{}, 1)}
		p.lanes[broker.ID()] = l
		p.run.Go(func() { p.send(l) })
	}
	l.broker, q.lane = broker, l
	p.queue(q)
}

// identify sees to it that a partition has a producer's number.
func (p *producer) identify(q *partition) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if q.numbers.known() {
		return nil
	}
	if p.identity.producer == noProducer {
		p.mu.Unlock()
		id, err := request(p.client)
		p.mu.Lock()
		if err != nil {
			return err
		}
		p.identity.producer = id
	}
	q.numbers.begin()
	return nil
}
