// Where a page is read from a file, browsers start no worker: the search's is run in a hidden frame. (The theme would fetch a
// script for this from elsewhere.)
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      this.inner = frame.contentWindow;
      window.addEventListener("message", (event) => {
        if (event.source !== this.inner) return;
        const copy = new MessageEvent("message", { data: event.data });
        this.dispatchEvent(copy);
        if (this.onmessage) this.onmessage(copy);
      });
      this.ready = new Promise((resolve) => {
        this.inner.loaded = resolve;
        const page = this.inner.document;
        page.open();
        page.write(`<script>
          postMessage = (data) => parent.dispatchEvent(new MessageEvent("message", { data, source: window }));
          importScripts = (...urls) => urls.reduce((before, one) => before.then(() => new Promise((done) => {
            const script = document.createElement("script");
            script.src = one;
            script.onload = done;
            document.body.append(script);
          })), Promise.resolve());
        <\/script><body><script src="${url}" onload="loaded()"><\/script>`);
        page.close();
      });
    }
    postMessage(data) {
      this.ready.then(() => this.inner.dispatchEvent(new MessageEvent("message", { data })));
    }
    terminate() {}
  };
}
