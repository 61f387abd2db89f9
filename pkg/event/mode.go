package event

import (
	"net/http"
	"strings"
)

// Mode is how an HTTP message carries events (CloudEvents HTTP binding, 3).
type Mode uint8

const (
	Binary     Mode = iota // attributes in ce- headers, the body is the data
	Structured             // the body is one event in the JSON format
	Batch                  // the body is a JSON array of events
)

// String is the mode's name in the spec: binary, structured or batch.
func (m Mode) String() string {
	switch m {
	case Binary:
		return "binary"
	case Structured:
		return "structured"
	case Batch:
		return "batch"
	}
	return "unknown"
}

// Media types of the two JSON modes (CloudEvents JSON format, 3 and 4).
const (
	ContentTypeJSON  = "application/cloudevents+json"
	ContentTypeBatch = "application/cloudevents-batch+json"
)

// Every media type that begins so says "this is a CloudEvent", in a format we
// may not know (CloudEvents HTTP binding, 3).
const contentTypePrefix = "application/cloudevents"

// modeOf reads the mode from a Content-Type. known is false for an event
// format other than JSON.
func modeOf(contentType string) (mode Mode, known bool) {
	if !hasPrefixFold(contentType, contentTypePrefix) {
		return Binary, true
	}
	switch media := mediaType(contentType); {
	case strings.EqualFold(media, ContentTypeJSON):
		return Structured, true
	case strings.EqualFold(media, ContentTypeBatch):
		return Batch, true
	}
	return Structured, false
}

// Claims reports whether a message says of itself that it is a CloudEvent: its
// Content-Type is application/cloudevents in any format, or it has one of the
// headers that every event in binary mode has. A message that claims to be an
// event and then does not decode is malformed; one that makes no claim is
// simply not an event, as the "OK" with which many subscribers answer.
func Claims(h http.Header) bool {
	for key, values := range h {
		for _, v := range values {
			if claims(key, v) {
				return true
			}
		}
	}
	return false
}

// ClaimsField is Claims of one header field, as it came and without the blanks
// around its value.
func ClaimsField(name, value []byte) bool { return claims(text(name), text(value)) }

func claims(name, value string) bool {
	switch len(name) {
	case len("ce-id"), len("ce-type"), len("ce-source"), len("ce-specversion"):
		return strings.EqualFold(name, "ce-id") || strings.EqualFold(name, "ce-type") ||
			strings.EqualFold(name, "ce-source") || strings.EqualFold(name, "ce-specversion")
	case len("content-type"):
		return strings.EqualFold(name, "content-type") && hasPrefixFold(strings.TrimSpace(value), contentTypePrefix)
	}
	return false
}

// isJSON reports whether a content type declares JSON: subtype json or the
// suffix +json, parameters aside (CloudEvents JSON format, 3.1).
func isJSON(contentType string) bool {
	_, subtype, ok := strings.Cut(mediaType(contentType), "/")
	if !ok {
		return false
	}
	if i := strings.LastIndexByte(subtype, '+'); i >= 0 {
		subtype = subtype[i+1:]
	}
	return strings.EqualFold(subtype, "json")
}

// mediaType is a content type without its parameters.
func mediaType(contentType string) string {
	media, _, _ := strings.Cut(contentType, ";")
	return strings.TrimSpace(media)
}

func hasPrefixFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
