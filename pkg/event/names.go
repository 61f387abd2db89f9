package event

import "strings"

// ceHeaders gives the header of the attributes one meets every day, so that
// neither reading nor writing them builds a string. It never changes.
var ceHeaders = map[string]string{
	AttrID:              "Ce-Id",
	AttrSource:          "Ce-Source",
	AttrSpecVersion:     "Ce-Specversion",
	AttrType:            "Ce-Type",
	AttrSubject:         "Ce-Subject",
	AttrTime:            "Ce-Time",
	AttrDataSchema:      "Ce-Dataschema",
	AttrSchemaURL:       "Ce-Schemaurl",
	AttrDataEncoding:    "Ce-Datacontentencoding",
	ExtTTL:              "Ce-Knativebrokerttl",
	ExtArrivalTime:      "Ce-Knativearrivaltime",
	ExtPartition:        "Ce-Partitionkey",
	"knativeerrordest":  "Ce-Knativeerrordest",
	"knativeerrorcode":  "Ce-Knativeerrorcode",
	"knativeerrordata":  "Ce-Knativeerrordata",
	"traceparent":       "Ce-Traceparent",
	"tracestate":        "Ce-Tracestate",
	"sequence":          "Ce-Sequence",
	ExtCorrelation:      "Ce-Correlationid",
	ExtCausation:        "Ce-Causationid",
	AttrDataContentType: "Ce-Datacontenttype", // only to be refused by name
}

// ceAttributes is ceHeaders the other way round.
var ceAttributes = func() map[string]string {
	m := make(map[string]string, len(ceHeaders))
	for name, header := range ceHeaders {
		m[header] = name
	}
	return m
}()

const cePrefix = "Ce-"

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

// attributeOf is the attribute of a canonical header that begins with Ce-.
func attributeOf(header string) string {
	if name, ok := ceAttributes[header]; ok {
		return name
	}
	return strings.ToLower(header[len(cePrefix):])
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

// travels reports whether a request header, by canonical name, goes along with
// the event to its subscribers: what traces and correlates, and nothing that
// authorises, routes or frames a request. Authorization, Cookie, Host, Kn-*,
// X-Forwarded-* and Retry-After are therefore out.
func travels(key string) bool {
	switch key {
	case "X-Request-Id", "Traceparent", "Tracestate", "B3":
		return true
	}
	return strings.HasPrefix(key, "Knative-") || strings.HasPrefix(key, "X-B3-")
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
