package loaded

import (
	"bufio"
	"bytes"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestTypesAreToldWhileSomebodyAsks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, WatcherOptions{Types: true})
		defer p.stop()
		b := p.board("pod-0", BoardOptions{})
		order := Type{Broker: "b", Type: "order.created", Source: "/shop", SpecVersion: "1.0"}
		b.Seen(order)
		p.watcher.SetPods(serving("pod-0"))
		time.Sleep(time.Second)
		if _, _, types := p.take(); types != nil {
			t.Errorf("told of %v, which passed before anybody asked", types)
		}
		for range 1000 {
			b.Seen(order)
		}
		reply := Type{Broker: "b", Trigger: "t", Type: "order.paid", Source: "/bank", SpecVersion: "1.0", Schema: "urn:x"}
		b.Seen(reply)
		time.Sleep(time.Second)
		if _, _, types := p.take(); !reflect.DeepEqual(types, []Type{order, reply}) {
			t.Errorf("told of %v, want each type once", types)
		}

		// A controller that comes later learns what is known.
		later := newPlane(t, WatcherOptions{Types: true})
		defer later.stop()
		later.net.Serve(t, "pod-0", b)
		later.watcher.SetPods(serving("pod-0"))
		time.Sleep(time.Second)
		if _, _, types := later.take(); len(types) != 2 {
			t.Errorf("a second controller was told of %v, want both", types)
		}
	})
}

func TestManyTypesAreNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlane(t, WatcherOptions{Types: true})
		defer p.stop()
		b := p.board("pod-0", BoardOptions{Types: 64})
		p.watcher.SetPods(serving("pod-0"))
		time.Sleep(time.Second + typesEvery/2)
		for i := range 100_000 {
			b.Seen(Type{Broker: "b", Type: fmt.Sprint("type-", i), Source: strings.Repeat("<\"\x01", MaxAttribute/3)})
		}
		b.Seen(Type{Broker: "b", Type: strings.Repeat("x", MaxAttribute+1)})
		b.Seen(Type{Broker: "b", Type: "not \xff UTF-8"})
		if n := len(b.types.known); n != 64 {
			t.Errorf("%d types are remembered, want the bound of 64", n)
		}
		time.Sleep(10 * time.Second)
		_, _, types := p.take()
		if len(types) != 64 {
			t.Errorf("told of %d types, want the 64 remembered", len(types))
		}
		for i, ty := range types {
			if want := fmt.Sprint("type-", 100_000-64+i); ty.Type != want {
				t.Fatalf("type %d is %q, want %q", i, ty.Type, want)
			}
		}
		if n := p.net.Dials("pod-0"); n != 1 {
			t.Errorf("%d connections, want 1: a line was not read", n)
		}
	})
}

// One that was pushed out while in use is told again.
func TestATypePushedOutIsFoundAgain(t *testing.T) {
	var ts types
	ts.init(4)
	for round := range 3 {
		ts.seen(Type{Type: "steady"})
		for i := range 4 {
			ts.seen(Type{Type: fmt.Sprint(round, i)})
		}
	}
	ts.seen(Type{Type: "steady"})
	if all, _ := ts.since(0, 100); len(all) != 4 || all[3].Type != "steady" {
		t.Errorf("known: %v", all)
	}
}

func BenchmarkSeen(b *testing.B) {
	board := NewBoard(BoardOptions{})
	t := Type{Broker: "0b5ab6a5-5f6c-4c0f-9d52-8d5ff5c1b7aa", Type: "com.example.order.created", Source: "/shop/orders", SpecVersion: "1.0"}
	b.Run("nobody asks", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			board.Seen(t)
		}
	})
	board.types.asked.Add(1)
	b.Run("known", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			board.Seen(t)
		}
	})
}

func FuzzReadLine(f *testing.F) {
	f.Add([]byte(`{"reset":true}` + "\n"))
	f.Add([]byte(`{"set":{"a":"1"},"unset":["b"],"whole":true}` + "\n"))
	f.Add([]byte(`{"types":[{"broker":"b","type":"t","source":"s","specversion":"1.0"}]}` + "\n"))
	f.Add([]byte("{}\n{}\nnull\n"))
	f.Add(append(bytes.Repeat([]byte(" "), 20<<10), "{}\n"...))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := bufio.NewReaderSize(bytes.NewReader(data), 16)
		for {
			l, err := readLine(r)
			if err != nil {
				return
			}
			if err := l.check(); err != nil {
				t.Fatalf("a line beyond its bounds was taken: %v", err)
			}
			// What is taken can be written, and reads as the same.
			var out bytes.Buffer
			if err := writeLine(&out, l); err != nil {
				t.Fatal(err)
			}
			if out.Len() > MaxLine {
				continue
			}
			again, err := readLine(bufio.NewReader(&out))
			if err != nil {
				t.Fatalf("%+v: written and not read: %v", l, err)
			}
			if len(again.Set) != len(l.Set) || len(again.Types) != len(l.Types) || again.Whole != l.Whole {
				t.Fatalf("%+v became %+v", l, again)
			}
		}
	})
}
