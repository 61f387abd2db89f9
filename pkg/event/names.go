package event

import (
	"net/http"
	"strings"
)

// ceHeaders gives the header of the attributes one meets every day, so that
// neither reading nor writing them builds a string. It never changes.
var ceHeaders = map[string]string{
	AttrID:             "Ce-Id",
	AttrSource:         "Ce-Source",
	AttrSpecVersion:    "Ce-Specversion",
	AttrType:           "Ce-Type",
	AttrSubject:        "Ce-Subject",
	AttrTime:           "Ce-Time",
	AttrDataSchema:     "Ce-Dataschema",
	AttrSchemaURL:      "Ce-Schemaurl",
	AttrDataEncoding:   "Ce-Datacontentencoding",
	ExtTTL:             "Ce-Knativebrokerttl",
	ExtArrivalTime:     "Ce-Knativearrivaltime",
	ExtPartition:       "Ce-Partitionkey",
	"knativeerrordest": "Ce-Knativeerrordest",
	"knativeerrorcode": "Ce-Knativeerrorcode",
	"knativeerrordata": "Ce-Knativeerrordata",
	"traceparent":      "Ce-Traceparent",
	"tracestate":       "Ce-Tracestate",
	"sequence":         "Ce-Sequence",
	ExtCorrelation:     "Ce-Correlationid",
	ExtCausation:       "Ce-Causationid",
}

// What the headers that carry attributes begin with: as they are written, and
// in lower case, as fields are read.
const (
	cePrefix    = "Ce-"
	fieldPrefix = "ce-"
)

// headerOf is the canonical header of an attribute: Ce- and the name with a
// capital first letter.
func headerOf(name string) string {
	if h, ok := ceHeaders[name]; ok {
		return h
	}
	if name == "" {
		return cePrefix
	}
	return cePrefix + strings.ToUpper(name[:1]) + name[1:]
}

// known returns the constant equal to name where there is one, and otherwise a
// copy: names in JSON are read from a buffer that somebody else owns.
func known(name []byte) string {
	switch string(name) {
	case AttrID:
		return AttrID
	case AttrSource:
		return AttrSource
	case AttrSpecVersion:
		return AttrSpecVersion
	case AttrType:
		return AttrType
	case AttrSubject:
		return AttrSubject
	case AttrTime:
		return AttrTime
	case AttrDataContentType:
		return AttrDataContentType
	case AttrDataSchema:
		return AttrDataSchema
	case ExtTTL:
		return ExtTTL
	case ExtArrivalTime:
		return ExtArrivalTime
	case ExtPartition:
		return ExtPartition
	case memberData:
		return memberData
	case memberBase64:
		return memberBase64
	}
	return string(name)
}

// maxHeaderBytes bounds the request headers that travel with one event, names
// and values together.
const maxHeaderBytes = 8 << 10

// travels reports whether a request header, in lower case, goes along with
// the event to its subscribers: what traces and correlates, and nothing that
// authorises, routes or frames a request. Authorization, Cookie, Host, Kn-*,
// X-Forwarded-* and Retry-After are therefore out.
func travels(name string) bool {
	switch name {
	case "x-request-id", "traceparent", "tracestate", "b3":
		return true
	}
	return strings.HasPrefix(name, "knative-") || strings.HasPrefix(name, "x-b3-")
}

// canonical is the name under which a header that travels is stored.
func canonical(name string) string {
	switch name {
	case "x-request-id":
		return "X-Request-Id"
	case "traceparent":
		return "Traceparent"
	case "tracestate":
		return "Tracestate"
	case "b3":
		return "B3"
	}
	return http.CanonicalHeaderKey(name)
}

// headerName reports whether a key is one that HTTP lets pass unchanged.
func headerName(key string) bool {
	if len(key) > MaxNameBytes {
		return false
	}
	for i := range len(key) {
		switch c := key[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_', c == '.':
		default:
			return false
		}
	}
	return true
}

// headerValue reports whether HTTP lets a value pass unchanged: no control
// characters but tab (RFC 9110, 5.5).
func headerValue(v string) bool {
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
