package controller

import (
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/penstock-events/penstock/pkg/channel"
)

// News carries what the data plane reports to the controllers. The zero value
// has nobody who listens. It may be used by any number of goroutines.
type News struct {
	mu    sync.Mutex
	hears []func([]channel.UID)
}

// Tell says that other versions of these objects are in force than before, or
// for nil that this may be so for any object.
func (n *News) Tell(uids []channel.UID) {
	n.mu.Lock()
	hears := n.hears
	n.mu.Unlock()
	for _, hear := range hears {
		hear(uids)
	}
}

// Wake calls enqueue from now on for each object that waits for what the data
// plane reports.
func (n *News) Wake(w *Waiting, enqueue func(types.NamespacedName)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.hears = append(n.hears[:len(n.hears):len(n.hears)], func(uids []channel.UID) { w.Each(uids, enqueue) })
}
