//go:build unix

package deliver

import "syscall"

// alive looks without waiting whether the peer has ended an idle connection or
// said something on it unasked. secure says that the bytes on the socket are
// TLS records, which may come at any time (session tickets).
func alive(socket syscall.RawConn, secure bool) bool {
	ok := false
	err := socket.Read(func(fd uintptr) bool {
		var b [1]byte
		n, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		ok = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK || secure && n > 0
		return true
	})
	return err == nil && ok
}
