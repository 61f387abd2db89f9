//go:build unix

package remote

import (
	"net"
	"syscall"
)

// alive looks without waiting whether the owner has ended an idle connection,
// or said something on it unasked. A connection that is no socket is taken for
// alive.
func alive(conn net.Conn) bool {
	s, ok := conn.(syscall.Conn)
	if !ok {
		return true
	}
	socket, err := s.SyscallConn()
	if err != nil {
		return false
	}
	ok = false
	err = socket.Read(func(fd uintptr) bool {
		var b [1]byte
		_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		ok = err == syscall.EAGAIN || err == syscall.EWOULDBLOCK
		return true
	})
	return err == nil && ok
}
