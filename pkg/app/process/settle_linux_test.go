package process

import "testing"

func TestOnlyPagesOfTheProgramThatNobodyWritesToAreGivenBack(t *testing.T) {
	const exe = "/ko-app/ingress"
	for line, want := range map[string]uintptr{
		"00400000-013ea000 r-xp 00000000 00:188 11183188                          /ko-app/ingress": 0xfea000,
		"013ea000-0248c000 r--p 00fea000 00:188 11183188                          /ko-app/ingress": 0x10a2000,
		"0248c000-025b0000 rw-p 0208c000 00:188 11183188                          /ko-app/ingress": 0, // data
		"013ea000-0248c000 r--s 00fea000 00:188 11183188                          /ko-app/ingress": 0,
		"013ea000-0248c000 r--p 00fea000 00:188 11183188                          /data/log/1.log": 0,
		"c000000000-c000400000 rw-p 00000000 00:00 0 ":                                             0,
		"7ffe3a5d8000-7ffe3a5f9000 rw-p 00000000 00:00 0                          [stack]":         0,
		"0248c000-013ea000 r--p 00fea000 00:188 11183188                          /ko-app/ingress": 0, // backwards
		"zz-013ea000 r--p 00fea000 00:188 11183188                                /ko-app/ingress": 0,
		"00400000-013ea000 r-xp 00000000 00:188 11183188           /ko-app/ingress (deleted)":      0, // seven fields
	} {
		if _, length, ok := programPages(line, exe); length != want || ok != (want > 0) {
			t.Errorf("%s: %#x, %v, want %#x", line, length, ok, want)
		}
	}
}

// The code that runs next is code whose pages were just given back.
func TestAProcessGoesOnAfterItHasSettled(t *testing.T) {
	sum := 0
	for i := range 10 {
		Settle()
		sum += i
	}
	if sum != 45 {
		t.Error(sum)
	}
}
