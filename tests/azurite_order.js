// Azure lists folders and blobs in one order, by name; Azurite lists the folders first. Hadoop's
// ABFS driver counts on the former: it takes a folder and its marker blob, which stand one after
// the other, for one. Loaded into Azurite with `node --require`.
const { ServerResponse } = require("http");

const write = ServerResponse.prototype.write;
const ENTRY = /<(Blob|BlobPrefix)>.*?<\/\1>/gs;
const name = (entry) => /<Name>(.*?)<\/Name>/s.exec(entry)[1];

function inOrder(body) {
  const entries = body.match(ENTRY) || [];
  entries.sort((a, b) => Buffer.compare(Buffer.from(name(a)), Buffer.from(name(b))));
  return body.replace(ENTRY, () => entries.shift());
}

ServerResponse.prototype.write = function (chunk, ...rest) {
  const listing = typeof chunk === "string" && chunk.includes("<BlobPrefix>");
  return write.call(this, listing ? inOrder(chunk) : chunk, ...rest);
};
