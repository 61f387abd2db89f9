package tokenreview

import (
	"encoding/base64"
	"encoding/json"
	"math"
	"strings"
	"time"
)

// expiry is when a JSON Web Token says that it ends (RFC 7519, 4.1.4). Nobody
// has checked its signature: it may only shorten what somebody else granted.
func expiry(token string) (time.Time, bool) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return time.Time{}, false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return time.Time{}, false
	}
	var claims struct {
		Expires *float64 `json:"exp"`
	}
	if json.Unmarshal(payload, &claims) != nil || claims.Expires == nil {
		return time.Time{}, false
	}
	if s := *claims.Expires; s > 0 && s < math.MaxInt32*1000.0 {
		return time.Unix(int64(s), 0), true
	}
	return time.Time{}, false
}
