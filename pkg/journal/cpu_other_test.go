//go:build !unix

package journal

import "time"

func cpu() time.Duration { return 0 }
