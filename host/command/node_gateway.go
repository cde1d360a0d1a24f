package command

import (
	"context"
	"errors"
	"path/filepath"
	"time"

	"github.com/rivergate/rivergate/services/gateway"
	"github.com/rivergate/rivergate/services/gateway/delivery"
	"github.com/rivergate/rivergate/services/gateway/intake"
	"github.com/rivergate/rivergate/services/gateway/journal"
	"github.com/rivergate/rivergate/services/gateway/trigger"
)

// openGateway makes the gateway's parts; plugins and reloader are there.
func (n *node) openGateway(ctx context.Context) error {
	highest, err := delivery.HighestPosition(ctx, n.db)
	if err != nil {
		return err
	}
	n.journal, err = journal.Open(journal.Options{
		NotBelow: highest, // should the journal's folder be lost, new rows must not hide behind old cursors
		Dir:      filepath.Join(n.cfg.DataDir, "journal"), MaxBytes: int64(n.cfg.JournalMaxBytes), SegmentBytes: int64(n.cfg.SegmentBytes),
		KeyTTL: n.cfg.IdempotencyTTL, Log: n.log.Named("journal"), Registry: n.registry,
	})
	if err != nil {
		return err
	}
	if err := n.openTriggers(); err != nil {
		return err
	}
	options := delivery.Options{
		Journal: n.journal, DB: n.db, Pushers: n.reloader.pushers(n.cfg.Instances), DeadLettersMaxBytes: int64(n.cfg.DeadLettersMax),
		OrgMaxBacklog: n.cfg.OrgMaxBacklog, Log: n.log.Named("delivery"), Registry: n.registry, Tracer: n.traces.Tracer(),
	}
	if n.triggers != nil {
		options.Triggers = n.triggers
	}
	n.delivery, err = delivery.Open(ctx, options)
	if err != nil {
		return err
	}
	n.reloader.delivery = n.delivery
	n.gateway, err = gateway.New(gateway.Options{
		Journal: n.journal, Delivery: n.delivery, Plugins: pluginList{n.plugins, n.reloader}, Hold: n.cfg.GatewayHold, Tracer: n.traces.Tracer(),
		Keys: keyRules[n.cfg.GatewayKeys], MaxRows: n.cfg.GatewayMaxRows, MaxBody: int64(n.cfg.GatewayMaxBody),
		Log: n.log.Named("gateway"), Registry: n.registry,
	})
	return err
}

// openTriggers makes the look-up of triggers, when there is a control tower.
func (n *node) openTriggers() (err error) {
	if n.cfg.ControlTower == "" {
		return nil
	}
	n.triggers, err = trigger.New(trigger.Options{
		URL: n.cfg.ControlTower, Token: n.cfg.TowerToken, Timeout: n.cfg.TowerTimeout, MissingFor: n.cfg.TowerMissingFor,
		CacheBytes: int64(n.cfg.TowerCache), Software: "rivergate/" + n.build.Version, Registry: n.registry,
	})
	return err
}

// keyRules are the words of RIVERGATE_GATEWAY_KEYS.
var keyRules = map[string]intake.Keys{"warn": intake.KeysWarn, "strict": intake.KeysStrict, "off": intake.KeysOff}

// startDelivery lets delivery run until close ends it.
func (n *node) startDelivery(ctx context.Context) {
	ctx, n.endDelivery = context.WithCancel(context.WithoutCancel(ctx))
	n.delivered = make(chan error, 1)
	go func() { n.delivered <- n.delivery.Run(ctx) }()
}

// endGateway ends what startDelivery began, up to a quarter of the time before the deadline, which the plugins need. wait is for
// what goes on beyond that: the plugins, once they are stopped, end the streams that still wait.
func (n *node) endGateway() (wait func() error, err error) {
	done := func() error { return nil }
	if n.gateway != nil {
		err = n.gateway.Close()
	}
	if n.endDelivery == nil {
		return done, err
	}
	n.endDelivery()
	timer := time.NewTimer(time.Until(n.deadline) - n.cfg.ShutdownTimeout/4)
	defer timer.Stop()
	select {
	case ended := <-n.delivered:
		return done, errors.Join(err, ended)
	case <-timer.C:
		n.cut = true
		n.log.Warn("delivery does not end in time; what is in flight is sent again after the next start")
		return func() error { return <-n.delivered }, err
	}
}
