package disk

// Epoch numbers the owners of this log: each Open that takes possession has a
// higher one than all before it, and every frame carries its owner's.
func (l *Log) Epoch() uint32 { return l.epoch }
