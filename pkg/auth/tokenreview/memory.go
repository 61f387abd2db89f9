package tokenreview

import (
	"container/list"
	"crypto/sha256"
	"sync"
)

// key stands for a token, or for a token and a question.
type key [sha256.Size]byte

// digest is the key of these texts. Each but the last ends with a zero byte,
// which none of them holds.
func digest(texts ...string) key {
	h := sha256.New()
	for i, t := range texts {
		if i > 0 {
			h.Write([]byte{0})
		}
		h.Write([]byte(t))
	}
	return key(h.Sum(nil))
}

// memory is a bounded map: the entry used longest ago makes room.
type memory[V any] struct {
	most int

	mu     sync.Mutex
	byKey  map[key]*list.Element
	recent *list.List // of entry[V], the latest first
}

type entry[V any] struct {
	key   key
	value V
}

func newMemory[V any](most int) *memory[V] {
	return &memory[V]{most: most, byKey: make(map[key]*list.Element), recent: list.New()}
}

func (m *memory[V]) get(k key) (v V, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e := m.byKey[k]
	if e == nil {
		return v, false
	}
	m.recent.MoveToFront(e)
	return e.Value.(entry[V]).value, true
}

func (m *memory[V]) put(k key, v V) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.byKey[k]; e != nil {
		e.Value = entry[V]{k, v}
		m.recent.MoveToFront(e)
		return
	}
	if m.recent.Len() >= m.most {
		last := m.recent.Back()
		m.recent.Remove(last)
		delete(m.byKey, last.Value.(entry[V]).key)
	}
	m.byKey[k] = m.recent.PushFront(entry[V]{k, v})
}

func (m *memory[V]) drop(k key) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e := m.byKey[k]; e != nil {
		m.recent.Remove(e)
		delete(m.byKey, k)
	}
}
