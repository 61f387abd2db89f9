package disk

// What the tests in disk_test need of the inside. They are outside because
// test/memfs, on which they run the log, imports this package.

// MinSegmentSize is the smallest segment.
const MinSegmentSize = minSegmentSize

// SystemFS is the file layer that a Log has by default.
func SystemFS() FS { return osFS{} }
