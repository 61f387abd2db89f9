package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"os"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/penstock-events/penstock/pkg/event"
)

// maxData bounds what --data-file and one event of a file may have.
const maxData = 64 << 20

// eventFlags describe one event on the command line.
type eventFlags struct {
	eventType, source, subject, id string
	data, dataFile, contentType    string
	extensions                     []string
	file                           string
}

func (f *eventFlags) bind(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&f.eventType, "type", "", "attribute type: what happened, as in order.created")
	flags.StringVar(&f.source, "source", "penstock/cli", "attribute source: where it happened")
	flags.StringVar(&f.subject, "subject", "", "attribute subject: to what it happened")
	flags.StringVar(&f.id, "id", "", "attribute id (default: a new UUID)")
	flags.StringVar(&f.data, "data", "", "the event's data")
	flags.StringVar(&f.dataFile, "data-file", "", "read the data from a file, - for standard input")
	flags.StringVar(&f.contentType, "content-type", "", "media type of the data (default: by its look, JSON, text or bytes)")
	flags.StringArrayVarP(&f.extensions, "extension", "e", nil, "extension attribute as NAME=VALUE; repeatable")
	flags.StringVarP(&f.file, "file", "f", "", "file of events in JSON, - for standard input")
	cmd.MarkFlagsMutuallyExclusive("data", "data-file", "file")
}

// check refuses what cannot become an event, before anything is done.
func (f *eventFlags) check(cmd *cobra.Command) error {
	if f.file == "" && f.eventType == "" {
		return usage("--type is missing: every event needs one, as in --type order.created; or give events with -f FILE")
	}
	if f.file == "-" && f.dataFile == "-" {
		return usage("standard input cannot be both -f and --data-file")
	}
	if f.file != "" && cmd.Flags().Changed("content-type") {
		return usage("--content-type: events given with -f have their own")
	}
	for _, e := range f.extensions {
		if name, _, ok := strings.Cut(e, "="); !ok || name == "" {
			return usage("--extension %q: want NAME=VALUE", e)
		}
	}
	return nil
}

// build makes an event of the flags.
func (f *eventFlags) build(cmd *cobra.Command) (*event.Builder, error) {
	var b event.Builder
	b.Set(event.AttrSpecVersion, "1.0").Set(event.AttrType, f.eventType).Set(event.AttrSource, f.source)
	b.Set(event.AttrTime, time.Now().UTC().Format(time.RFC3339Nano))
	if f.id != "" {
		b.Set(event.AttrID, f.id)
	} else {
		b.Set(event.AttrID, uuid.NewString())
	}
	if f.subject != "" {
		b.Set(event.AttrSubject, f.subject)
	}
	f.setExtensions(&b)
	data, given, err := f.payload(cmd)
	if err != nil {
		return nil, err
	}
	if given {
		contentType := f.contentType
		if contentType == "" {
			contentType = guess(data)
		}
		b.SetData(data).Set(event.AttrDataContentType, contentType)
	} else if f.contentType != "" {
		b.Set(event.AttrDataContentType, f.contentType)
	}
	if err := b.Validate(); err != nil {
		return nil, usage("%v", err)
	}
	return &b, nil
}

// override sets what flags say explicitly on an event from a file.
func (f *eventFlags) override(cmd *cobra.Command, e event.Event) (event.Event, error) {
	b := event.Edit(e)
	changed := len(f.extensions) > 0
	for flag, value := range map[string]string{"type": f.eventType, "source": f.source, "subject": f.subject, "id": f.id} {
		if cmd.Flags().Changed(flag) { // each has the name of its attribute
			b.Set(flag, value)
			changed = true
		}
	}
	if !changed {
		return e, nil
	}
	f.setExtensions(b)
	if err := b.Validate(); err != nil {
		return event.Event{}, err
	}
	return b.Build()
}

func (f *eventFlags) setExtensions(b *event.Builder) {
	for _, e := range f.extensions {
		name, value, _ := strings.Cut(e, "=")
		b.Set(name, value)
	}
}

func (f *eventFlags) payload(cmd *cobra.Command) (data []byte, given bool, err error) {
	if f.dataFile == "" {
		return []byte(f.data), cmd.Flags().Changed("data"), nil
	}
	in, err := openInput(cmd, f.dataFile)
	if err != nil {
		return nil, false, err
	}
	defer in.Close()
	data, err = io.ReadAll(io.LimitReader(in, maxData+1))
	if err == nil && len(data) > maxData {
		err = fmt.Errorf("%s is longer than %d bytes", f.dataFile, maxData)
	}
	return data, true, err
}

// guess is the media type of data that came without one.
func guess(data []byte) string {
	switch {
	case json.Valid(data):
		return "application/json"
	case utf8.Valid(data):
		return mime.FormatMediaType("text/plain", map[string]string{"charset": "utf-8"})
	default:
		return "application/octet-stream"
	}
}

// openInput opens a file, or standard input for -.
func openInput(cmd *cobra.Command, path string) (io.ReadCloser, error) {
	if path == "-" {
		return io.NopCloser(cmd.InOrStdin()), nil
	}
	return os.Open(path)
}
