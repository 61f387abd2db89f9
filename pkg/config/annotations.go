package config

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/deliver"
)

// AnnotationPrefix begins the annotations that say what Knative has no field
// for. In the ConfigMap of a Broker's spec.config the same keys stand without it.
const AnnotationPrefix = "penstock.dev/"

// maxConcurrency bounds attempts in flight for one Trigger.
const maxConcurrency = 10_000

// setting is one annotation key: the kinds it may stand on and how it is read.
type setting struct {
	key             string
	broker, trigger bool
	read            func(s *settings, value string) error
}

// settings are what the annotations of one object say. nil or 0 is not given.
type settings struct {
	channel      string
	channelField string // where it was said
	retention    *retention
	maxBytes     int64
	backoffMax   time.Duration
	concurrency  int
	rate         float64
	paused       *bool
	order        string
	schedule     *deliver.Schedule
	adaptive     *bool
	dedupWindow  time.Duration
	start        Start
}

// Orders of delivery (annotation penstock.dev/order).
const (
	OrderNone = "none" // as fast as the subscriber takes them
	OrderKey  = "key"  // one after the other within a key, see Trigger.Ordered
)

// supported lists the settings there are, by key. On a Broker, adaptive,
// backoff-max, concurrency, order, paused and retry-schedule are what its
// Triggers fall back to; rate is another thing there.
func supported() []setting {
	return []setting{
		{key: "adaptive", broker: true, trigger: true, read: func(s *settings, value string) (err error) {
			s.adaptive, err = parseBool(value)
			return err
		}},
		{key: "backoff-max", broker: true, trigger: true, read: func(s *settings, value string) (err error) {
			if s.backoffMax, err = parseDuration(value); err == nil && s.backoffMax == 0 {
				err = fmt.Errorf("must be more than nothing")
			}
			return err
		}},
		{key: "channel", broker: true, read: func(s *settings, value string) error {
			switch value {
			case ChannelDisk, ChannelMemory, ChannelJetStream:
				s.channel = value
				return nil
			}
			return fmt.Errorf("want disk, memory or jetstream")
		}},
		{key: "concurrency", broker: true, trigger: true, read: func(s *settings, value string) error {
			n, err := strconv.Atoi(value)
			if err != nil || n < 1 || n > maxConcurrency {
				return fmt.Errorf("want a number from 1 to %d", maxConcurrency)
			}
			s.concurrency = n
			return nil
		}},
		{key: "dedup-window", broker: true, read: func(s *settings, value string) (err error) {
			s.dedupWindow, err = parseDedupWindow(value)
			return err
		}},
		{key: "max-bytes", broker: true, read: func(s *settings, value string) (err error) {
			if s.maxBytes, err = ParseBytes(value); err == nil && s.maxBytes == 0 {
				err = fmt.Errorf("must be more than nothing: leave it out for the default")
			}
			return err
		}},
		{key: "order", broker: true, trigger: true, read: func(s *settings, value string) error {
			if value != OrderNone && value != OrderKey {
				return fmt.Errorf("want %s or %s", OrderNone, OrderKey)
			}
			s.order = value
			return nil
		}},
		{key: "paused", broker: true, trigger: true, read: func(s *settings, value string) (err error) {
			s.paused, err = parseBool(value)
			return err
		}},
		{key: "rate", broker: true, trigger: true, read: func(s *settings, value string) (err error) {
			s.rate, err = ParseRate(value)
			return err
		}},
		{key: "retention", broker: true, read: func(s *settings, value string) error {
			r, err := parseRetention(value, retention{DefaultRetention, DefaultRetentionBytes})
			if err == nil {
				s.retention = &r
			}
			return err
		}},
		{key: "retry-schedule", broker: true, trigger: true, read: func(s *settings, value string) error {
			schedule, err := parseSchedule(value)
			if err == nil {
				s.schedule = &schedule
			}
			return err
		}},
		{key: "start", trigger: true, read: func(s *settings, value string) (err error) {
			s.start, err = parseStart(value)
			return err
		}},
	}
}

// settings reads all that an object's ConfigMap and annotations say; an
// annotation wins over the ConfigMap. What is not understood makes the object
// not ready: to run it without would be to break a promise it relies on.
func (c *compiler) settings(o *Object) settings {
	var s settings
	if len(o.Settings) == 0 && len(o.Annotations) == 0 {
		return s
	}
	for _, key := range slices.Sorted(maps.Keys(o.Settings)) {
		// Knative's own ConfigMaps carry an example, and a channel template that a
		// Broker gets by defaulting.
		if key == "channel-template-spec" || strings.HasPrefix(key, "_") {
			continue
		}
		c.setting(o, &s, "spec.config", "key "+quoteKey(key)+" of its ConfigMap", key, o.Settings[key])
	}
	for _, full := range slices.Sorted(maps.Keys(o.Annotations)) {
		if key, ours := strings.CutPrefix(full, AnnotationPrefix); ours {
			c.setting(o, &s, "metadata.annotations["+full+"]", "annotation "+quoteKey(full), key, o.Annotations[full])
		}
	}
	return s
}

// setting reads one key into s.
func (c *compiler) setting(o *Object, s *settings, field, what, key, value string) {
	all := supported()
	at := slices.IndexFunc(all, func(k setting) bool { return k.key == key })
	switch {
	case at < 0:
		known := make([]string, len(all))
		for i := range all {
			known[i] = all[i].key
		}
		c.faultAt(o, o.origin(field), ReasonUnsupportedAnnotation, what+" is unknown"+cure(Suggest(key, known), ": remove it"))
	case o.Kind == KindBroker && !all[at].broker, o.Kind == KindTrigger && !all[at].trigger:
		other := KindBroker
		if o.Kind == KindBroker {
			other = KindTrigger
		}
		c.faultAt(o, o.origin(field), ReasonUnsupportedAnnotation, fmt.Sprintf("%s has no meaning on a %s: move it to the %s", what, o.Kind, other))
	default:
		value = strings.TrimSpace(value)
		if err := all[at].read(s, value); err != nil {
			c.faultAt(o, o.origin(field), ReasonAnnotationInvalid, fmt.Sprintf("%s: %s: %v", what, quote(value), err))
		} else if key == "channel" {
			s.channelField = field
		}
	}
}

// cure is the first text that is not empty.
func cure(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

// quoteKey shows an annotation's key plainly if it is plain.
func quoteKey(key string) string {
	q := quote(key)
	if q == `"`+key+`"` {
		return key
	}
	return q
}
