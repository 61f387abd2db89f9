package remote_test

import (
	"testing"

	"github.com/penstock-events/penstock/pkg/channel"
	"github.com/penstock-events/penstock/pkg/channel/channeltest"
	"github.com/penstock-events/penstock/pkg/channel/disk"
	"github.com/penstock-events/penstock/pkg/channel/memory"
	"github.com/penstock-events/penstock/pkg/channel/remote"
)

// before is a front before a log: the whole hop on loopback.
func before(t *testing.T, log channel.Log) channeltest.Front {
	run(t, log.Run)
	address, _, _ := serve(t, remote.ServerOptions{Appender: of(log)})
	return channeltest.Front{Appender: client(t, remote.Options{}, address), Broker: log.Broker}
}

func TestHopBeforeMemoryKeepsTheContract(t *testing.T) {
	channeltest.RunAppender(t, func(t *testing.T) channeltest.Front {
		return before(t, memory.New(memory.Options{}))
	})
}

func TestHopBeforeDiskKeepsTheContract(t *testing.T) {
	channeltest.RunAppender(t, func(t *testing.T) channeltest.Front {
		log, err := disk.Open(t.TempDir(), disk.Options{})
		if err != nil {
			t.Fatal(err)
		}
		return before(t, log)
	})
}
