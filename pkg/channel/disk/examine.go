package disk

import (
	"fmt"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Examine implements channel.Examiner.
func (l *Log) Examine() []channel.Finding { return l.Health().findings(l.o.Now()) }

// findings puts a Health in words.
func (h Health) findings(now time.Time) []channel.Finding {
	var all []channel.Finding
	add := func(s channel.Severity, subject, what, means, cure string) {
		all = append(all, channel.Finding{Severity: s, Subject: subject, What: what, Means: means, Cure: cure})
	}
	if h.Latched != nil {
		add(channel.Problem, "log", "stopped after an error of the disk: "+h.Latched.Error(),
			"events are refused with 503; those answered with 202 before are stored, those answered with 500 may be or not",
			lookAtDisk+", then restart: opening verifies all that was acknowledged")
	} else {
		add(channel.OK, "log", fmt.Sprintf("%s in %s", channel.Amount(h.Bytes), channel.Count(h.Segments, "segment")), "", "")
	}
	h.room(add)
	h.damage(now, add)
	sync := fmt.Sprintf("a sync takes %v, one in a hundred %v", h.SyncP50.Round(10*time.Microsecond), h.SyncP99.Round(10*time.Microsecond))
	switch {
	case h.SyncP99 == 0:
	case h.SyncP99 > time.Second:
		add(channel.Warning, "disk speed", sync, "senders wait that long for their 202", "find out what else uses the disk, or use a faster one")
	default:
		add(channel.OK, "disk speed", sync, "", "")
	}
	if h.ClockAhead > time.Second {
		add(channel.Warning, "clock", fmt.Sprintf("the wall clock is %v behind the newest event", h.ClockAhead.Round(time.Second)),
			"it was set back; new events get the time of the newest until it has caught up, so ages and retention are wrong by that much",
			"set the clock by NTP, in small steps")
	}
	return all
}

// room is about bytes: the log's bound, and the volume.
func (h Health) room(add func(s channel.Severity, subject, what, means, cure string)) {
	what := channel.Amount(h.Bytes) + " stored"
	if h.MaxBytes > 0 {
		what += " of at most " + channel.Amount(h.MaxBytes)
	}
	if h.Volume > 0 {
		what += fmt.Sprintf(", %s free on the volume", channel.Amount(h.Free))
	}
	if h.Spare {
		what += ", the next segment is reserved"
	}
	switch bound := h.MaxBytes - h.Reserve; {
	case h.Full != "":
		add(channel.Problem, "space", h.Full, "events are refused with 507; deliveries, dead letters and progress go on in a reserve",
			"make room on the volume, or mend the subscribers that are behind; it goes on by itself")
	case h.MaxBytes > 0 && h.Bytes > bound/5*4, h.Volume > 0 && h.Free < 2*h.LowWater:
		add(channel.Warning, "space", what, "when it is full events are refused with 507", "make room on the volume, or mend the subscribers that are behind")
	default:
		add(channel.OK, "space", what, "", "")
	}
}

// damage is about bytes that are not as they were written.
func (h Health) damage(now time.Time, add func(s channel.Severity, subject, what, means, cure string)) {
	switch {
	case len(h.Scrub.Damaged) > 0:
		var numbers []string
		for _, n := range h.Scrub.Damaged {
			numbers = append(numbers, fmt.Sprint(n))
		}
		noun := "segment "
		if len(numbers) > 1 {
			noun = "segments "
		}
		add(channel.Problem, "scrubber", "not as written: "+noun+few(numbers),
			"their good events are taken over, the others are declared lost", lookAtDisk+", and at `events cannot be read` in the log for which they are")
	case h.Scrub.Off:
		add(channel.Note, "scrubber", "switched off", "damage to stored events shows when they are read, and not before", "")
	default:
		add(channel.OK, "scrubber", fmt.Sprintf("%s read since the start, no damage; last whole pass %s", channel.Amount(h.Scrub.Bytes), ago(now, h.Scrub.Complete)), "", "")
	}
	if h.Suspected > 0 {
		add(channel.Warning, "segments", channel.Count(h.Suspected, "segment")+" may be damaged",
			"what is good and needed moves on; the log says which, and what is lost", lookAtDisk)
	}
	if h.Gaps > 0 {
		add(channel.Warning, "gaps", channel.Count(h.Gaps, "range")+" of events declared lost", "these events had been damaged before they were delivered to all; they are listed for ever",
			lookAtDisk+"; a backup from before may hold them")
	}
	if len(h.Quarantined) > 0 {
		add(channel.Warning, "files", "set aside because damaged: "+few(h.Quarantined), "their good events were taken over",
			lookAtDisk+"; the files may be removed when nobody needs them")
	}
	if h.TornBytes > 0 {
		add(channel.Note, "files", fmt.Sprintf("a crash had cut the last write short: %s set aside in %s", channel.Count(h.TornBytes, "byte"), strings.Join(h.Torn, ", ")),
			"never acknowledged", "")
	}
	if c := h.Checkpoint; !c.At.IsZero() {
		add(channel.OK, "checkpoint", fmt.Sprintf("%s, written %s", channel.Amount(c.Bytes), ago(now, c.At)), "", "")
	}
}
