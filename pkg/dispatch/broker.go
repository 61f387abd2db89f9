package dispatch

import (
	"context"
	"sync"
	"sync/atomic"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/config"
	"github.com/penstock-events/penstock/pkg/deliver"
	"github.com/penstock-events/penstock/pkg/journal"
)

// broker is one Broker's delivery in this process: a scanner for each shard,
// a lane for each trigger, and one flush for all of them.
type broker struct {
	d        *Dispatcher
	uid      channel.UID
	name     string // namespace/name
	log      channel.BrokerLog
	appender channel.Appender // the log that the broker is part of, for replies
	shards   []channel.ShardID
	journal  *journal.Broker // nil: nobody wants to know
	ctx      context.Context // of the scanners and the flush
	cancel   context.CancelFunc

	// routing is passed to match records and shut while a change of the trigger
	// set is recorded and put in force, so that no record after a change is ever
	// matched by the set before it.
	routing gate
	tables  []*table // the first decides from the start, each other from its own positions on

	scanned  []atomic.Uint64 // by shard: every record below has been offered
	scanners []scanner       // by shard

	mu      sync.Mutex
	lanes   map[channel.UID]*lane
	touches []*lane // lanes with changes for the next flush
	pulse   chan struct{}
	parked  chan struct{}           // holds one token while workers may be parked
	saved   []channel.Position      // by shard: scanned as of the last flush
	flushes sync.Mutex              // SaveProgress is one caller's at a time
	unsaved []channel.ShardProgress // the log had no room for it
	shared  uint64                  // positions at rest when share last looked; the flush loop's
	started atomic.Bool             // a trigger set is in force and the scanners run
}

// newBroker takes up where the log says delivery has come to. triggers are
// those declared now, which need not be those in the log.
func newBroker(d *Dispatcher, conf *config.Broker, log channel.BrokerLog, triggers []*config.Trigger) (*broker, error) {
	b := &broker{
		d: d, uid: conf.UID, name: conf.FullName(), log: log, appender: d.opts.Logs[conf.Channel], shards: log.Shards(),
		journal: d.opts.Journal.Broker(conf.UID, conf.FullName()),
		lanes:   make(map[channel.UID]*lane), pulse: make(chan struct{}, 1), parked: make(chan struct{}, 1),
	}
	b.scanned = make([]atomic.Uint64, len(b.shards))
	b.scanners = make([]scanner, len(b.shards))
	b.saved = make([]channel.Position, len(b.shards))
	b.ctx, b.cancel = context.WithCancel(d.scanning)
	declared := declaredFilters(triggers)
	for _, change := range log.Routes() {
		if err := b.recall(change, declared); err != nil {
			b.abandon()
			return nil, err
		}
	}
	for i, shard := range b.shards {
		scanned, lanes := log.Resume(shard)
		b.scanned[i].Store(uint64(scanned))
		b.saved[i] = scanned
		for _, p := range lanes {
			b.lane(p.Trigger, string(p.Trigger)).restore(i, scanned, p)
		}
	}
	return b, nil
}

// abandon gives back what a broker holds that was never started.
func (b *broker) abandon() {
	b.cancel()
	for _, l := range b.list() {
		l.metrics.Close()
	}
}

// gap makes a damaged range visible. Its events are not lost in silence:
// whoever reads the log or watches the counter learns which they were.
func (b *broker) gap(g *channel.GapError) {
	b.d.opts.Metrics.Broker(b.name).Gap()
	b.d.log.Error("events cannot be read", "broker", b.name, "shard", g.Shard, "from", g.From, "to", g.To-1, "err", g.Cause)
}

// lane finds a trigger's lane or makes it. The caller is newBroker or apply,
// which nobody runs beside.
func (b *broker) lane(uid channel.UID, name string) *lane {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.lanes[uid]
	if l == nil {
		l = newLane(b, uid, name)
		b.lanes[uid] = l
	}
	return l
}

func (b *broker) id(shard int, pos channel.Position) channel.ID {
	return channel.ID{Shard: b.shards[shard], Position: pos}
}

var formats = map[string]deliver.Format{
	config.FormatKeep:   deliver.AsReceived,
	config.FormatBinary: deliver.Binary,
	config.FormatJSON:   deliver.JSON,
}

// confOf compiles a Trigger's delivery settings, keeping targets that have
// not changed.
func (b *broker) confOf(t *config.Trigger, was laneConf) laneConf {
	conf := laneConf{
		deliverable: t.Ready && !t.Held,
		policy:      t.Policy,
		format:      formats[t.Format],
		concurrency: t.Concurrency,
		asked:       t.Concurrency > 0,
		paced:       t.ScalesFromZero,
		steady:      t.Steady,
		paused:      t.Paused,
		ordered:     t.Ordered,
		rate:        t.Rate,
		subscriber:  was.subscriber,
		sink:        was.sink,
	}
	if conf.concurrency <= 0 {
		conf.concurrency = b.d.opts.Concurrency
	}
	if !conf.deliverable {
		return conf
	}
	if conf.subscriber == nil || conf.subscriber.Destination() != t.Subscriber {
		conf.subscriber = b.d.opts.Sender.Target(t.Subscriber, deliver.TargetOptions{Namespace: t.Namespace, Reply: true})
	}
	switch {
	case t.DeadLetterSink == "":
		conf.sink = nil
	case conf.sink == nil || conf.sink.Destination() != t.DeadLetterSink:
		conf.sink = b.d.opts.Sender.Target(t.DeadLetterSink, deliver.TargetOptions{Namespace: t.Namespace})
	}
	return conf
}

// apply puts the Broker's triggers in force. removed names those that are
// gone for good; one that is merely absent is held. So are all of a Broker that
// is held itself, though they may be those of its namesake that came after it.
func (b *broker) apply(ctx context.Context, held bool, triggers []*config.Trigger, removed map[channel.UID]bool) error {
	present := make(map[channel.UID]bool, len(triggers))
	for _, t := range triggers {
		present[t.UID] = true
		l := b.lane(t.UID, t.FullName())
		was := l.settings()
		conf := b.confOf(t, was)
		conf.deliverable = conf.deliverable && !held
		if conf != was {
			l.configure(conf)
		}
	}
	err := b.route(ctx, triggers, present, removed)
	b.mu.Lock()
	var gone, absent []*lane
	for uid, l := range b.lanes {
		switch {
		case removed[uid]:
			gone = append(gone, l)
			delete(b.lanes, uid)
		case !present[uid]:
			absent = append(absent, l)
		}
	}
	b.mu.Unlock()
	for _, l := range absent {
		l.hold()
	}
	b.cancelLanes(gone, "trigger is gone: its pending events are cancelled")
	// Without a trigger set every record would be passed over.
	if len(b.tables) > 0 && !b.started.Swap(true) {
		b.start()
	}
	return err
}

// stopLanes ends the lanes' workers once their attempts have ended.
func (b *broker) stopLanes() {
	for _, l := range b.list() {
		l.stop()
	}
}

// remove ends all delivery of a Broker that is gone for good. Its series go
// too, unless a namesake counts on.
func (b *broker) remove(namesake bool) {
	b.cancel()
	b.cancelLanes(b.list(), "broker is gone: pending events are cancelled")
	if !namesake {
		b.d.opts.Metrics.DropBroker(b.name)
	}
	b.d.log.Info("broker removed", "broker", b.name)
}

// cancelLanes ends all that is pending on lanes that are gone, and says why
// where that was something.
func (b *broker) cancelLanes(lanes []*lane, why string) {
	for _, l := range lanes {
		if n := l.cancel(); n > 0 {
			b.d.log.Warn(why, "broker", b.name, "trigger", l.name, "events", n)
		}
	}
}

func (b *broker) list() []*lane {
	b.mu.Lock()
	defer b.mu.Unlock()
	lanes := make([]*lane, 0, len(b.lanes))
	for _, l := range b.lanes {
		lanes = append(lanes, l)
	}
	return lanes
}
