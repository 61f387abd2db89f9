package telemetry

// ValidTraceParent reports whether a traceparent header may be passed on
// (W3C Trace Context, 3.2): version, trace id, parent id and flags in lower
// case hex, neither id all zeros, version not ff. Version 00 has nothing
// after the flags; a later version may. A header that is not valid is
// dropped together with its tracestate (3.2 and 3.3), as if the sender had not
// been traced.
func ValidTraceParent(s string) bool {
	if len(s) < 55 || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return false
	}
	version, trace, parent, flags := s[:2], s[3:35], s[36:52], s[53:55]
	switch {
	case !hex(version) || !hex(trace) || !hex(parent) || !hex(flags):
		return false
	case version == "ff" || zeros(trace) || zeros(parent):
		return false
	case len(s) == 55:
		return true
	}
	return version != "00" && s[55] == '-'
}

func hex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

func zeros(s string) bool {
	for i := range len(s) {
		if s[i] != '0' {
			return false
		}
	}
	return true
}
