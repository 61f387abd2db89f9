package filter

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Spec is what a Trigger says about the events it wants, in Knative's words:
// Attributes is filter.attributes, Filters is filters. Where Filters has an
// entry it decides alone and Attributes is not looked at; where both are empty
// every event matches.
type Spec struct {
	Attributes map[string]string `json:"attributes,omitempty"`
	Filters    []Dialect         `json:"filters,omitempty"`
}

// Dialect is one entry of filters, or of all, any and not inside one. Exactly
// one of its fields is set (CloudEvents Subscriptions API, 3.2.4.1).
type Dialect struct {
	Exact  map[string]string `json:"exact,omitempty"`
	Prefix map[string]string `json:"prefix,omitempty"`
	Suffix map[string]string `json:"suffix,omitempty"`
	All    []Dialect         `json:"all,omitempty"`
	Any    []Dialect         `json:"any,omitempty"`
	Not    *Dialect          `json:"not,omitempty"`
	CESQL  string            `json:"cesql,omitempty"`
}

// Bounds of one filter. A filter beyond them does not compile. Together they
// keep the worst evaluation in the order of tens of microseconds, whoever
// wrote the filter and whoever sent the event.
const (
	// MaxNodes counts each attribute compared, each all, any and not, and each
	// operator, operand and function call of a CESQL expression.
	MaxNodes = 200
	// MaxDepth is how deep all, any and not may nest, and, counted for
	// themselves, the brackets of a CESQL expression.
	MaxDepth = 32
	// MaxTextBytes bounds one value and one CESQL expression.
	MaxTextBytes = 4096
)

// Error says why a filter does not compile and where in the Trigger's spec.
type Error struct {
	Path   string // as in filters[0].all[1].cesql or filter.attributes[Type]
	Reason string // one line, without the path
}

func (e *Error) Error() string { return e.Path + ": " + e.Reason }

// Canonical is the one JSON text of this spec: equal specs have equal bytes.
// Attributes that Filters override are left out, so that changing them is no
// change. It is meaningful for a spec that compiles.
func (s Spec) Canonical() []byte {
	if len(s.Filters) > 0 {
		s.Attributes = nil
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		panic("filter: a spec of strings has no JSON form: " + err.Error())
	}
	return bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
}

// ParseSpec reads what Canonical wrote. A field it does not know is an error:
// a dialect of a newer version must not read as no filter at all.
func ParseSpec(text []byte) (Spec, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	var s Spec
	if err := dec.Decode(&s); err != nil {
		return Spec{}, fmt.Errorf("read filter: %w", err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return Spec{}, errors.New("read filter: text after the end")
	}
	return s, nil
}
