(function(){if(window.__dg)return;window.__dg=1;
var d=document.createElement('div');d.style.cssText='position:fixed;z-index:9;pointer-events:none;display:none;'+
'background:#1c2430;color:#fff;font:12px/1.4 system-ui,sans-serif;padding:6px 9px;border-radius:6px;white-space:pre';
document.body.appendChild(d);
document.addEventListener('mousemove',function(e){var g=e.target.closest&&e.target.closest('svg.disconnectivity g.b');
if(!g){d.style.display='none';return}
if(!g.t){var t=g.querySelector('title');g.t=t.textContent;t.remove()}
d.textContent=g.t;d.style.display='block';
var x=e.clientX+14,y=e.clientY+14;
if(x+d.offsetWidth>innerWidth)x=e.clientX-d.offsetWidth-10;
if(y+d.offsetHeight>innerHeight)y=e.clientY-d.offsetHeight-10;
d.style.left=x+'px';d.style.top=y+'px'})})();
