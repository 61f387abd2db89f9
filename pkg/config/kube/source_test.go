package kube

import (
	"testing"
	"testing/synctest"
)

func TestABrokerAndItsTriggersAreFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, Options{}, broker("shop", "default", "b1"), trigger("shop", "orders", "t1", "default"))
		defer c.stop()
		s := c.last()
		b, ok := s.Broker("shop", "default")
		if !ok || !b.Ready || b.UID != "b1" {
			t.Fatalf("broker %+v", b)
		}
		tr, ok := s.Trigger("shop", "orders")
		if !ok || !tr.Ready || tr.Subscriber != "http://orders.shop" {
			t.Fatalf("trigger %+v", tr)
		}
		c.create(trigger("shop", "bills", "t2", "default"))
		if n := len(c.last().TriggersOf("shop", "default")); n != 2 {
			t.Errorf("%d triggers after another was made, want 2", n)
		}
	})
}
