package controller

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/penstock-events/penstock/pkg/channel"
)

// Waiting are the objects that wait until the data plane has loaded them. It
// holds one entry for each, and may be used by any number of goroutines. The
// zero value is empty.
type Waiting struct {
	mu   sync.Mutex
	keys map[types.NamespacedName][]channel.UID
}

// For notes that an object waits until the data plane has loaded these. It
// belongs before the look whether it has, so that no news falls in between.
func (w *Waiting) For(key types.NamespacedName, uids ...channel.UID) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.keys == nil {
		w.keys = make(map[types.NamespacedName][]channel.UID)
	}
	w.keys[key] = uids
}

// Done notes that an object waits no more.
func (w *Waiting) Done(key types.NamespacedName) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.keys, key)
}

// Each calls f for every object that waits for one of these, or for every
// object that waits if uids is nil.
func (w *Waiting) Each(uids []channel.UID, f func(types.NamespacedName)) {
	changed := make(map[channel.UID]bool, len(uids))
	for _, uid := range uids {
		changed[uid] = true
	}
	var keys []types.NamespacedName
	w.mu.Lock()
	for key, of := range w.keys {
		if uids == nil || slices.ContainsFunc(of, func(uid channel.UID) bool { return changed[uid] }) {
			keys = append(keys, key)
		}
	}
	w.mu.Unlock()
	for _, key := range keys {
		f(key)
	}
}

// maxMissing is how many pods a condition names.
const maxMissing = 3

// NotLoadedBy says which pods something waits for.
func NotLoadedBy(missing []string) string {
	more := ""
	if over := len(missing) - maxMissing; over > 0 {
		missing, more = missing[:maxMissing], fmt.Sprintf(" and %d more", over)
	}
	return "not loaded everywhere yet: " + strings.Join(missing, ", ") + more
}
