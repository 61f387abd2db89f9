package event

import (
	"fmt"
	"net/http"
	"slices"
)

// Overlay is what differs between an event as stored and as one receiver gets
// it: extensions that stay hidden, such as the broker's hop count, and
// extensions set on top, such as the reason of a dead letter. The event itself
// is not touched. A nil Overlay changes nothing; one Overlay may serve any
// number of goroutines while nobody changes it.
type Overlay struct {
	Hide []string
	// Set replaces or adds. Each name once, none of them one that the spec
	// itself defines.
	Set []Attribute
}

// Attribute is a name and its value.
type Attribute struct {
	Name string
	Value
}

// check refuses what would make the message no valid event.
func (o *Overlay) check() error {
	for i, a := range o.set() {
		err := checkName(a.Name)
		if err == nil && (core(a.Name, version1) || core(a.Name, version03)) {
			err = malformed(a.Name, "only extensions can be set")
		}
		if err == nil {
			err = checkText(a.Name, a.Text)
		}
		if err == nil {
			err = checkKind(a.Name, a.Value)
		}
		if err == nil && slices.ContainsFunc(o.Set[:i], func(b Attribute) bool { return b.Name == a.Name }) {
			err = malformed(a.Name, "set twice")
		}
		if err != nil {
			return fmt.Errorf("overlay: %w", err)
		}
	}
	return nil
}

// covers reports whether the event's own attribute of that name stays out.
func (o *Overlay) covers(name string) bool {
	return o != nil && (slices.Contains(o.Hide, name) ||
		slices.ContainsFunc(o.Set, func(a Attribute) bool { return a.Name == name }))
}

func (o *Overlay) set() []Attribute {
	if o == nil {
		return nil
	}
	return o.Set
}

// WriteHTTP writes the event as an HTTP message in Binary or Structured mode:
// it sets headers in h, which should hold none of an earlier event, and returns
// the body. In Binary the body is Data itself, not a copy, and must not be
// changed; the Content-Type is the datacontenttype byte for byte, and none if
// there is none. The headers that travel with the event are set in both modes.
//
// Whatever the modes on the way, decoding the message gives the same data. An
// error is about the mode or the overlay, and then h is as it was.
func (e Event) WriteHTTP(h http.Header, mode Mode, o *Overlay) (body []byte, err error) {
	switch mode {
	case Binary:
		if err := o.check(); err != nil {
			return nil, err
		}
		e.writeBinary(h, o)
		return e.Data(), nil
	case Structured:
		body, err := e.AppendJSON(make([]byte, 0, e.jsonSize()), o)
		if err != nil {
			return nil, err
		}
		for name, v := range e.Headers() {
			h[name] = []string{v}
		}
		h["Content-Type"] = []string{ContentTypeJSON}
		return body, nil
	}
	return nil, fmt.Errorf("write event: one event has no %s mode", mode)
}

// writeBinary sets the headers of binary mode.
func (e Event) writeBinary(h http.Header, o *Overlay) {
	// All values in one array, each header a slice of it with no room to grow
	// into its neighbour.
	values := make([]string, 0, e.entries()+len(o.set())+1)
	set := func(key, v string) {
		values = append(values, v)
		h[key] = values[len(values)-1 : len(values) : len(values)]
	}
	contentType := ""
	for name, v := range e.Attributes() {
		switch {
		case name == AttrDataContentType:
			contentType = v.Text
		case !o.covers(name):
			set(headerOf(name), encodeHeader(v.Text))
		}
	}
	for _, a := range o.set() {
		set(headerOf(a.Name), encodeHeader(a.Text))
	}
	for name, v := range e.Headers() {
		set(name, v)
	}
	if contentType == "" && e.raw[1]&flagJSONData != 0 {
		// JSON without a datacontenttype is application/json by the JSON format,
		// which binary mode cannot know (CloudEvents 1.0, 3.1.2, datacontenttype).
		contentType = "application/json"
	}
	if contentType != "" {
		set("Content-Type", contentType)
	} else {
		delete(h, "Content-Type")
	}
}
