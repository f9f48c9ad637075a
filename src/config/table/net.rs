//! Keys of the sockets, which both programs read.

use super::super::key::{
    Class::{Honoured, NoOp, NotBuilt},
    Key,
    Kind::*,
};
use super::{INT, NETTY, keys};

const TLS: &str = "TLS";

keys! {
    /// RocketMQ's NettyServerConfig and NettyClientConfig, without `listenPort`, whose default differs by program.
    NET;
    "bindAddress" Ip, "0.0.0.0", Honoured, "Address to listen on.";
    "serverChannelMaxIdleTimeSeconds" Int { min: 1, max: 86_400 }, "120", Honoured, "A connection that neither reads nor writes for this many seconds is closed.";
    "serverSocketBacklog" INT, "1024", NotBuilt("a listen queue of a chosen length"), "Connections that wait to be accepted.";
    "serverSocketSndBufSize" INT, "0", NoOp("the kernel sizes socket buffers"), "Send buffer of a socket, in bytes; 0 leaves it to the kernel.";
    "serverSocketRcvBufSize" INT, "0", NoOp("the kernel sizes socket buffers"), "Receive buffer of a socket, in bytes; 0 leaves it to the kernel.";
    "writeBufferHighWaterMark" INT, "0", NoOp(NETTY), "Bytes waiting on a connection above which it is not writable.";
    "writeBufferLowWaterMark" INT, "0", NoOp(NETTY), "Bytes waiting on a connection below which it is writable again.";
    "serverWorkerThreads" INT, "8", NoOp(NETTY), "Threads that encode and decode.";
    "serverCallbackExecutorThreads" INT, "0", NoOp(NETTY), "Threads that run callbacks.";
    "serverSelectorThreads" INT, "3", NoOp(NETTY), "Threads that wait for sockets.";
    "serverOnewaySemaphoreValue" INT, "256", NoOp(NETTY), "One-way requests of the server in flight.";
    "serverAsyncSemaphoreValue" INT, "64", NoOp(NETTY), "Asynchronous requests of the server in flight.";
    "serverNettyWorkerGroupEnable" Bool, "true", NoOp(NETTY), "Whether workers have threads of their own.";
    "serverPooledByteBufAllocatorEnable" Bool, "true", NoOp(NETTY), "Whether buffers are pooled.";
    "useEpollNativeSelector" Bool, "false", NoOp(NETTY), "Whether epoll is called natively.";
    "enableShutdownGracefully" Bool, "false", NotBuilt("GO_AWAY at shutdown"), "Whether clients are told to go elsewhere before a shutdown.";
    "shutdownWaitTimeSeconds" INT, "30", NotBuilt("GO_AWAY at shutdown"), "How many seconds clients have to go elsewhere.";
    "useTLS" Bool, "false", NotBuilt(TLS), "Whether outgoing connections use TLS.";
    "tls.enable" Bool, "false", NotBuilt(TLS), "Whether outgoing connections use TLS.";
    "tls.server.mode" Choice(&["disabled", "permissive", "enforcing"]), "permissive", NotBuilt(TLS), "Whether clients may or must use TLS.";
    "tls.config.file" Path, "<none>", NotBuilt(TLS), "File that names keys and certificates.";
    "tlsKeyPassword" Text, "<none>", NotBuilt(TLS), "Password of the private key.";
    "clientWorkerThreads" INT, "4", NoOp(NETTY), "Threads of outgoing connections.";
    "clientCallbackExecutorThreads" INT, "<one for each core>", NoOp(NETTY), "Threads that run callbacks of outgoing calls.";
    "clientOnewaySemaphoreValue" INT, "65535", NoOp(NETTY), "One-way outgoing calls in flight.";
    "clientAsyncSemaphoreValue" INT, "65535", NoOp(NETTY), "Asynchronous outgoing calls in flight.";
    "clientChannelMaxIdleTimeSeconds" INT, "120", NoOp(NETTY), "Seconds after which an idle outgoing connection is closed.";
    "clientSocketSndBufSize" INT, "0", NoOp("the kernel sizes socket buffers"), "Send buffer of an outgoing connection, in bytes.";
    "clientSocketRcvBufSize" INT, "0", NoOp("the kernel sizes socket buffers"), "Receive buffer of an outgoing connection, in bytes.";
    "clientPooledByteBufAllocatorEnable" Bool, "false", NoOp(NETTY), "Whether buffers of outgoing connections are pooled.";
    "clientCloseSocketIfTimeout" Bool, "true", NoOp(NETTY), "Whether a call that timed out closes its connection.";
    "connectTimeoutMillis" INT, "3000", NoOp(NETTY), "Milliseconds to wait for an outgoing connection.";
    "channelNotActiveInterval" INT, "60000", NoOp(NETTY), "Milliseconds between looks at outgoing connections.";
    "isScanAvailableNameSrv" Bool, "true", NoOp("every name server is called each time"), "Whether name servers that answer are looked for.";
    "scanAvailableNameSrv" Bool, "true", NoOp("every name server is called each time"), "Whether name servers that answer are looked for.";
    "disableCallbackExecutor" Bool, "false", NoOp(NETTY), "Whether callbacks run on the socket's thread.";
    "disableNettyWorkerGroup" Bool, "false", NoOp(NETTY), "Whether outgoing connections do without workers.";
    "maxReconnectIntervalTimeSeconds" INT, "60", NoOp(NETTY), "Longest pause between attempts to connect, in seconds.";
    "enableReconnectForGoAway" Bool, "true", NoOp(NETTY), "Whether GO_AWAY leads to a new connection.";
}
