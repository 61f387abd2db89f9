package history

// LeastWait is compared with the policy's own.
var LeastWait = leastWait
