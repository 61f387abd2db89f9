package disk

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/penstock-events/penstock/pkg/channel"
)

// CheckOptions change a Check from its defaults. The zero CheckOptions work.
type CheckOptions struct {
	FS       FS                      // the file layer; nil is the operating system's
	MaxBytes int64                   // bytes of the whole log, as in Options
	Progress func(done, total int64) // told how many bytes of the segments have been read; nil tells nobody
}

// Report is what Check found.
type Report struct {
	Findings []channel.Finding    // in the order they were looked for
	Brokers  []channel.BrokerInfo // that have something stored, by uid
	Events   uint64               // that can be read
	Pending  uint64               // deliveries that are owed: an event counts for each trigger
	Dead     uint64               // dead letters
}

// Check reads a store that nobody has open, all of it, and says how it is. It
// writes nothing. Damage is no error but a Finding; an error says that the
// store could not be looked at: a *LockedError that a process has it open, one
// that wraps fs.ErrNotExist that there is none.
//
// Where no finding is a channel.Problem, Open succeeds and every event can be
// read. A store that is damaged where nothing of value stood has a Warning.
func Check(ctx context.Context, dir string, o CheckOptions) (Report, error) {
	layer := o.FS
	if layer == nil {
		layer = osFS{}
		if info, err := os.Stat(dir); err != nil {
			return Report{}, fmt.Errorf("check store: %w", err)
		} else if !info.IsDir() {
			return Report{}, fmt.Errorf("check store: %s is not a folder", dir)
		}
	}
	options := Options{FS: readOnly{layer}, MaxBytes: o.MaxBytes, Logger: slog.New(slog.DiscardHandler)}.withDefaults()
	c := &checker{ctx: ctx, dir: dir, o: o, options: options, log: newLog(dir, options)}
	lock, err := c.log.fs.Lock(filepath.Join(dir, "LOCK"))
	if err != nil {
		return Report{}, fmt.Errorf("check store: %w", err)
	}
	err = errors.Join(c.run(), lock.Close())
	if err != nil {
		err = fmt.Errorf("check store: %w", err)
	}
	return c.report, err
}

// checker is one run of Check.
type checker struct {
	ctx     context.Context
	dir     string
	o       CheckOptions
	options Options
	log     *Log // the state as recovery sees it, as far as that gets
	report  Report

	sound       bool // recovery gets through
	done, total int64
	there       map[uint32]*presence
}

func (c *checker) add(s channel.Severity, subject, what, means, cure string) {
	c.report.Findings = append(c.report.Findings, channel.Finding{Severity: s, Subject: subject, What: what, Means: means, Cure: cure})
}

func (c *checker) run() error {
	found, err := c.files()
	if err != nil {
		return err
	}
	if err := c.log.bound(); err != nil {
		return err
	}
	c.space()
	if len(found.checkpoints) == 0 {
		c.unused(found)
		return nil
	}
	if !c.checkpoints(found) {
		return nil
	}
	cover, tail, err := c.log.verify(found)
	if c.sound = err == nil; c.sound && tail.footer {
		c.log.enterParts() // opening does so from the footer
	}
	if tail.file != nil {
		defer tail.file.Close()
	}
	c.recovery(cover, tail, err)
	if err := c.segments(cover); err != nil {
		return err
	}
	c.brokers()
	return nil
}

const (
	lookAtDisk = "look at the disk (kernel log, SMART)"
	fromBackup = "restore the data folder from a backup (penstock restore)"
	repairIt   = "penstock doctor --repair takes over all that can be read and declares the rest lost; a backup may hold more"
)

// files looks at what lies in the folder.
func (c *checker) files() (stored, error) {
	found, err := c.log.list()
	if err != nil {
		return found, err
	}
	names, err := c.log.fs.List(c.dir)
	if err != nil {
		return found, err
	}
	slices.Sort(names)
	var strays, torn, damaged []string
	for _, name := range names {
		switch {
		case name == "LOCK" || name == spareName || name == checkpointTemp || isNumbered(name, segmentSuffix) || isNumbered(name, checkpointSuffix):
		case strings.HasSuffix(name, tornSuffix):
			torn = append(torn, name)
		case strings.HasSuffix(name, damagedSuffix):
			damaged = append(damaged, name)
		default:
			strays = append(strays, name)
		}
	}
	if len(strays) == 0 {
		c.add(channel.OK, "files", fmt.Sprintf("%s and %s", channel.Count(len(found.segments), "segment"), channel.Count(len(found.checkpoints), "checkpoint")), "", "")
	} else {
		c.add(channel.Note, "files", "not the store's own: "+few(strays), "", "")
	}
	if len(torn) > 0 {
		c.add(channel.Note, "files", "set aside after crashes: "+few(torn), "bytes of writes that were cut short; they were never acknowledged", "they may be removed")
	}
	if len(damaged) > 0 {
		c.add(channel.Warning, "files", "set aside because damaged: "+few(damaged),
			"their good events were taken over, the others are declared lost", lookAtDisk+"; the files may be removed when nobody needs them")
	}
	return found, nil
}

// isNumbered reports whether a name is 16 digits and the suffix.
func isNumbered(name, suffix string) bool {
	digits, ok := strings.CutSuffix(name, suffix)
	if !ok || len(digits) < 16 {
		return false
	}
	n, err := strconv.ParseUint(digits, 10, 64)
	return err == nil && fmt.Sprintf("%016d", n) == digits
}

// space looks at the volume.
func (c *checker) space() {
	total, free, err := c.log.fs.Space(c.dir)
	switch mark := lowWater(total, c.log.segmentSize); {
	case err != nil:
		c.add(channel.Warning, "space", "free space is not known: "+err.Error(), "", "")
	case total <= 0:
		c.add(channel.Note, "space", "free space is not known on this system", "", "")
	case free < mark:
		c.add(channel.Problem, "space", fmt.Sprintf("%s free of %s", channel.Amount(free), channel.Amount(total)),
			fmt.Sprintf("events are refused with 507 while less than %s is free", channel.Amount(mark)), "make room on the volume")
	case free < 2*mark:
		c.add(channel.Warning, "space", fmt.Sprintf("%s free of %s", channel.Amount(free), channel.Amount(total)),
			fmt.Sprintf("events are refused with 507 once less than %s is free", channel.Amount(mark)), "make room on the volume")
	default:
		c.add(channel.OK, "space", fmt.Sprintf("%s free of %s", channel.Amount(free), channel.Amount(total)), "", "")
	}
}

// unused judges a folder without a checkpoint.
func (c *checker) unused(found stored) {
	if err := c.log.checkUnused(found); err != nil {
		c.add(channel.Problem, "checkpoints", "there is none: "+reason(err),
			"the store does not open: without one nobody knows which segments belong to it", fromBackup)
		return
	}
	c.add(channel.OK, "checkpoints", "none: nothing has been stored here yet", "", "")
}

// checkpoints verifies each; false if none is good, or if a newer Penstock
// wrote them.
func (c *checker) checkpoints(found stored) bool {
	var bad []string
	good := 0
	for _, sequence := range slices.Backward(found.checkpoints) {
		scratch := newLog(c.dir, c.options)
		cover, body, err := scratch.readCheckpoint(checkpointName(c.dir, sequence))
		if err == nil {
			if err = errors.Join(scratch.decodeState(body, cover.version), body.close()); err == nil {
				good++
				continue
			}
		}
		if newer, ok := errors.AsType[*VersionError](err); ok {
			c.add(channel.Problem, "checkpoints", fmt.Sprintf("%s has format version %d, this build reads up to %d", newer.File, newer.Version, formatVersion),
				"the store does not open with this build; nothing is wrong with it", "use the newer Penstock that wrote it")
			return false
		}
		bad = append(bad, reason(err))
	}
	switch {
	case good == 0:
		c.add(channel.Problem, "checkpoints", "none can be read: "+few(bad), "the store does not open", lookAtDisk+", then "+fromBackup)
		return false
	case len(bad) > 0:
		c.add(channel.Warning, "checkpoints", few(bad), "nothing is missing: there is another", lookAtDisk)
	default:
		c.add(channel.OK, "checkpoints", channel.Count(good, "checkpoint")+" verified", "", "")
	}
	return true
}

// recovery says what opening the store will do at its end.
func (c *checker) recovery(cover cover, t torn, err error) {
	switch {
	case err == nil && t.discarded:
		c.add(channel.Note, "end of the log", fmt.Sprintf("the last write was cut short: %s at %d", segmentName(c.dir, c.log.active.number), t.from),
			"it was never acknowledged; the next start sets its bytes aside", "")
	case err == nil:
		c.add(channel.OK, "end of the log", fmt.Sprintf("segment %d ends at %d, owner epoch %d", c.log.active.number, t.from, cover.epoch), "", "")
	default:
		means := "the store does not open; nothing is accepted or delivered"
		cure := lookAtDisk + "; " + repairIt
		if newer, ok := errors.AsType[*VersionError](err); ok {
			c.add(channel.Problem, "end of the log", newer.Error(), means, "use the newer Penstock that wrote it")
			return
		}
		if corrupt, ok := errors.AsType[*CorruptError](err); ok {
			if behind := c.behind(corrupt); behind > 0 {
				means += fmt.Sprintf("; %s behind the damage can still be read", channel.Count(behind, "event"))
			}
			if strings.Contains(corrupt.Reason, "missing") {
				cure = "put the file back, or mount the volume that has it; " + repairIt
			}
		} else {
			cure = lookAtDisk
		}
		c.add(channel.Problem, "start", reason(err), means, cure)
	}
}

// behind counts the events after the damage that stopped recovery.
func (c *checker) behind(at *CorruptError) int {
	number, err := strconv.ParseUint(strings.TrimSuffix(filepath.Base(at.File), segmentSuffix), 10, 64)
	if err != nil {
		return 0
	}
	f, err := c.log.fs.Open(at.File)
	if err != nil {
		return 0
	}
	defer f.Close()
	size, err := f.Size()
	if err != nil {
		return 0
	}
	events := 0
	g := &segment{number: number, seed: frameSeed(c.log.store, number), size: size}
	chunk := new(chunk)
	for off := resync(f, g, max(at.Offset+frameAlign, segmentHeader)&^(frameAlign-1)); off < size && c.ctx.Err() == nil; {
		h, _, err := chunk.frame(f, g.seed, off, size, size)
		if err != nil {
			off = resync(f, g, off+frameAlign)
			continue
		}
		if h.kind == kindEvent {
			events++
		}
		off += h.size()
	}
	return events
}

// read counts what was read of the segments.
func (c *checker) read(n int64) error {
	if c.done += n; c.o.Progress != nil {
		c.o.Progress(min(c.done, c.total), c.total)
	}
	return c.ctx.Err()
}

// reason is an error without the cure that CorruptError brings along: a
// finding has one of its own.
func reason(err error) string {
	if corrupt, ok := errors.AsType[*CorruptError](err); ok {
		return fmt.Sprintf("%s is damaged at offset %d: %s", corrupt.File, corrupt.Offset, corrupt.Reason)
	}
	return err.Error()
}

// few lists at most three things.
func few(things []string) string {
	if more := len(things) - 3; more > 0 {
		return strings.Join(things[:3], ", ") + fmt.Sprintf(" and %d more", more)
	}
	return strings.Join(things, ", ")
}

// ago is a time in words.
func ago(now, t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return now.Sub(t).Round(time.Second).String() + " ago"
}
